"""Writes a state whose new value has a shape that the converter has lost.

Stands against: coremltools 9.0
Repairs: ``coreml_update_state`` (``mil/ops/defs/coreml_dialect/ops.py``), which refuses a value
    whose shape is not known when the program is converted ("State wrapped type … not matched"). A
    window that slides, ``torch.cat([held, new], 1)[:, -64:]`` with a dynamic number of new rows,
    always has the state's shape; torch knows that, and the converter's symbols do not.
Remove when: such a window is converted, as the test shows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Var
from coremltools.converters.mil.mil.types.symbolic import any_symbolic

from pte_foundry.upstream.versions import require

require(mb, "coreml_update_state", patch=__name__)


@contextmanager
def shaped_states() -> Iterator[None]:
    """Within this context a new value gets the shape of its state, if its own is not known."""
    upstream = mb.coreml_update_state

    def coreml_update_state(*, state: Var, value: Var, **others: Any) -> Var:
        shape = state.sym_type.wrapped_type().get_shape()
        if len(shape) == value.rank and any_symbolic(value.shape) and not any_symbolic(shape):
            value = mb.reshape(x=value, shape=list(shape))
        return upstream(state=state, value=value, **others)

    with patch.object(mb, "coreml_update_state", coreml_update_state):
        yield
