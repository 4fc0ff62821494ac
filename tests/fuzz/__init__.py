"""Fuzzing of both loaders and of execution: ``make fuzz``, or ``python -m tests.fuzz``.

``mil_programs`` and ``pte_programs`` build programs by hand, so that they can be wrong in ways that
no converter is; ``strategies`` draws random ones from the registry of operations, the table of
kernels, and the schema of each argument. ``cases`` runs one of them as a user would. ``__main__``
does so in children with limits, and keeps what it finds in ``found/``, which every test run
replays.
"""
