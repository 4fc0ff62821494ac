"""Release: the manifest of all artifacts."""
