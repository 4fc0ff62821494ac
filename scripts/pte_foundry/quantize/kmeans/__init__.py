"""Exact one-dimensional k-means for look-up tables (palettization)."""
