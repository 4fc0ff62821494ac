"""Lets int64 inputs, as of tokens, have enumerated shapes.

Stands against: executorch 1.5.1
Repairs: ``_get_ct_inputs`` (``backends/apple/coreml/compiler/enumerated_shape_utils.py``), which
    refuses programs with int64 inputs. Without enumerated shapes they are int32 inputs of the Core
    ML program, and the delegate converts what it is given; with them that is as right.
Remove when: it accepts int64.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from executorch.backends.apple.coreml.compiler import enumerated_shape_utils as upstream
from torch.export import ExportedProgram

from pte_foundry.upstream.versions import require

require(upstream, "_iterate_over_fake_user_inputs", "ep", patch=__name__)


@contextmanager
def enumerated_int64() -> Iterator[None]:
    """Within this context enumerated shapes are made of int64 inputs too."""
    inputs = upstream._iterate_over_fake_user_inputs

    def narrowed(ep: ExportedProgram) -> Iterator[tuple[str, Any]]:
        for name, value in inputs(ep):
            if value.dtype == torch.int64:
                yield name, SimpleNamespace(shape=value.shape, dtype=torch.int32)
            else:
                yield name, value

    with patch.object(upstream, "_iterate_over_fake_user_inputs", narrowed):
        yield
