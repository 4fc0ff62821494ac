"""Keeps the floor of a division by one.

Stands against: coremltools 9.0
Repairs: the pass ``common::noop_elimination`` (``mil/passes/defs/cleanup/noop_elimination.py``),
    which removes every ``floor_div`` by 1, also of floating-point numbers. So ``x % 1``, which is
    ``x - floor_div(x, 1) * 1``, becomes 0 (coremltools#2836).
Remove when: ``noop_elimination._match_pattern`` leaves such a ``floor_div`` alone.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from coremltools.converters.mil.mil import Operation, types
from coremltools.converters.mil.mil.passes.defs.cleanup.noop_elimination import noop_elimination

from pte_foundry.upstream.versions import require

require(noop_elimination, "_match_pattern", "op", patch=__name__)


@contextmanager
def kept_floors() -> Iterator[None]:
    """Within this context the pass removes a division by one of integers only."""
    upstream = noop_elimination._match_pattern

    def match_pattern(op: Operation) -> Callable[[Operation], bool] | None:
        if op.op_type == "floor_div" and not types.is_int(op.outputs[0].dtype):
            return None
        return upstream(op)

    with patch.object(noop_elimination, "_match_pattern", staticmethod(match_pattern)):
        yield
