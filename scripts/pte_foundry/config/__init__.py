"""The configuration: its pydantic models, and the checks before any work."""
