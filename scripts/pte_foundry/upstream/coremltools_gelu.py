"""Converts ``gelu`` with the approximation that a call asks for.

Stands against: coremltools 9.0
Repairs: the converter of ``gelu`` (``mil/frontend/torch/ops.py``), which reads ``approximate`` from
    the positional arguments only. torch.export gives it by name, so ``approximate="tanh"`` is the
    exact function without a word: an error of up to 0.0005.
Remove when: ``gelu`` reads the argument by name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from coremltools.converters.mil.frontend.torch import ops as frontend
from coremltools.converters.mil.mil import Builder as mb

from pte_foundry.upstream.coremltools_operators import converting
from pte_foundry.upstream.versions import require

for _function, _parameters in (
    ("gelu", "context node"),
    ("_get_inputs", "context node expected min_expected"),
):
    require(frontend, _function, _parameters, patch=__name__)


@contextmanager
def approximated_gelu() -> Iterator[None]:
    """Within this context ``gelu(x, approximate="tanh")`` is approximated."""

    def convert(context: Any, node: Any) -> None:
        if (node.kwinputs or {}).get("approximate") != ("tanh",):
            frontend.gelu(context, node)
            return
        (x,) = frontend._get_inputs(context, node, expected=1)
        context.add(mb.gelu(x=x, mode="TANH_APPROXIMATION", name=node.name))

    with converting({"gelu": convert}):
        yield
