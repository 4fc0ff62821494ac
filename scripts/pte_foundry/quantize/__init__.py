"""Compression of models: PT2E (``pt2e``), ``quantize_`` steps (``steps``) and their fast paths.

Nothing is imported here: the settings are read by code that must not pay for torch.
"""
