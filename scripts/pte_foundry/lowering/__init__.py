"""From a torch program to a Core ML program inside an ExecuTorch program."""
