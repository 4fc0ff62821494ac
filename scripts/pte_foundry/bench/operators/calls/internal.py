"""Operators that are registered, but that no exported program contains: with the reason."""

CALLS: list[tuple] = []
