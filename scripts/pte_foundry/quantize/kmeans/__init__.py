"""Scalar k-means for look-up tables (LUT palettization): near-optimal, reproducible bit for bit.

``lookup_tables`` has the function to call. The other modules are its parts, in the order of their
use: ``bins`` counts values, ``cells`` holds the counts as sorted rows, ``seeding`` finds the first
clusters, ``intervals`` improves them.
"""
