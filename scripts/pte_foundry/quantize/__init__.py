"""Compression of models: PT2E (``pt2e``), weight-only steps (``weight_only``), k-means tables.

``schemes`` and ``selection`` import nothing heavy, because planning a build uses them.
"""
