"""One command per rule: ``python -P -m pte_foundry.steps.<rule>``."""

import sys
from types import TracebackType


def _end_quietly(
    kind: type[BaseException], error: BaseException, traceback: TracebackType | None
) -> None:
    """Leaves it to Snakemake to tell that the user has interrupted it."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, traceback)


# Here, because it is imported first. Python still ends by SIGINT, which tells Snakemake.
if any(part.startswith(f"{__name__}.") for part in sys.orig_argv[1:4]):
    sys.excepthook = _end_quietly
