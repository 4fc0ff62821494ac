"""Patches of torch, torchao, executorch and coremltools, and what we use of their private names."""
