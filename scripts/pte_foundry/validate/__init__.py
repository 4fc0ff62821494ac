"""Validation: metrics, hazards, gates, per-layer error attribution, and the report of them."""
