"""Benchmarks: ours against upstream. Run ``python -m pte_foundry.bench``, or ``make bench``.

Each benchmark is a module with a ``TITLE``, a text ``HOW`` that states what is timed, and
``comparisons()``, which yields :class:`pte_foundry.bench.measure.Comparison` as they are measured.
To add one, write such a module and name it in ``__main__``. A benchmark without a counterpart
upstream has no baseline, and may draw a picture of its own. ``large`` is a command of its own.
"""

from pte_foundry.lock import LIBRARY

CLONE = LIBRARY.parents[1]
"""The clone that the library is in: benchmarks use its rules, configuration and models."""
