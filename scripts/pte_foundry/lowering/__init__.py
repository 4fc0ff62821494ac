"""Lowering of torch programs to Core ML programs inside ExecuTorch programs."""
