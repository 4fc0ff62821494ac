"""One count over two runs of one ``make``: how many jobs the first has done."""

import json
import os
from contextlib import suppress
from pathlib import Path

FILE = Path(".snakemake/foundry_progress.json")


def leave(done: int) -> None:
    """Writes how many jobs are done, for the next run that ``make`` starts in this folder."""
    with suppress(OSError):  # then the next run counts from 0
        FILE.write_text(json.dumps({"done": done, "group": os.getpgrp()}), encoding="utf-8")


def take() -> int:
    """Returns how many jobs the run before has done, and forgets it; 0 if it was of another make.

    All that a shell runs for one command line is in one process group.
    """
    try:
        text = FILE.read_text(encoding="utf-8")
        FILE.unlink()
        found = json.loads(text)
        return int(found["done"]) if found["group"] == os.getpgrp() else 0
    except (OSError, ValueError, KeyError, TypeError):
        return 0
