"""Model modules, their weights and data, and torch programs on disk."""
