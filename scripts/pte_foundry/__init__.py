"""Builds PyTorch models into verified, byte-reproducible Core ML programs for ExecuTorch."""
