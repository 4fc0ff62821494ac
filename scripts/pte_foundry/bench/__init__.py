"""Benchmarks: ours against upstream, side by side. ``python -m pte_foundry.bench``, or ``make bench``.

Each benchmark is a module with a ``TITLE``, a text ``HOW`` that says what is timed, and
``comparisons()``, which yields :class:`pte_foundry.bench.measure.Comparison` as they are measured. To
add one, write such a module and name it in ``__main__``. What nothing upstream does too has no
baseline, and its module may draw a picture of its own.
"""
