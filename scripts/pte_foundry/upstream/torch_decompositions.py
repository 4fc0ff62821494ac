"""torch's list of composite operators, collected once instead of at every decomposition.

Stands against: torch 2.13.0
Repairs: ``_collect_all_valid_cia_ops_for_namespace`` (``torch/_export/utils.py``), which looks at
    every operator that is registered, again for each table of decompositions: a third of the time
    that a small program takes from export to ``.pte``.
Remove when: torch keeps the list.

The list is that of the first call: only for a process that registers no operators meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from unittest.mock import patch

from torch._export import utils

from pte_foundry.upstream.versions import require

_NAME = "_collect_all_valid_cia_ops_for_namespace"
require(utils, _NAME, "op_namespace", patch=__name__)


@contextmanager
def collected_once() -> Iterator[None]:
    """Within this context composite operators are collected once for each namespace."""
    with patch.object(utils, _NAME, cache(getattr(utils, _NAME))):
        yield
