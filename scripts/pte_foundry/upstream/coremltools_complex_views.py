"""Converts ``view_as_real`` in ExecuTorch's programs, where it has another name.

Stands against: coremltools 9.0
Repairs: the names that the converter of ``view_as_real`` is registered by
    (``mil/frontend/torch/ops.py``): ExecuTorch turns it into ``view_as_real_copy``, and so
    ``real`` and ``imag`` too. It stays outside of the delegate then, whose output would be complex.
Remove when: ``view_as_real_copy`` is registered.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from coremltools.converters.mil.frontend.torch import ops as frontend

from pte_foundry.upstream.coremltools_operators import converting
from pte_foundry.upstream.versions import require

require(frontend, "view_as_real", "context node", patch=__name__)


@contextmanager
def converted_complex_views() -> Iterator[None]:
    """Within this context the real view of a complex tensor is computed in Core ML."""
    names = {"view_as_real_copy": frontend.view_as_real}
    with converting(names):
        yield
