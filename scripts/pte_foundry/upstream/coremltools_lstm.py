"""Converts ``nn.LSTM`` to Core ML's ``lstm``, a loop on the device, instead of unrolling it.

Stands against: coremltools 9.0
Repairs: the converter of ``lstm`` (``mil/frontend/torch/ops.py``), which only TorchScript reaches.
    torch.export calls the operator ``aten.lstm.input``, and the overload is not registered, so
    ExecuTorch decomposes it: about ten operators for each step, layer and direction. The converter
    also needs a name for each of the three outputs, and a call of torch.export has one.
Remove when: ``lstm.input`` is in the registry and its outputs are a tuple.

The converter knows no projections (``proj_size``): a program that has them is unrolled as before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import torch
from coremltools.converters.mil.frontend.torch import ops as frontend
from torch.fx import Node

from pte_foundry.upstream.coremltools_operators import converting
from pte_foundry.upstream.versions import require

for _function, _parameters in (
    ("lstm", "context node"),
    ("_get_inputs", "context node expected min_expected"),
):
    require(frontend, _function, _parameters, patch=__name__)


@contextmanager
def whole_lstms() -> Iterator[None]:
    """Within this context Core ML has ``aten.lstm.input``."""
    with converting({"lstm.input": _convert}):
        yield


def projects(node: Node) -> bool:
    """Return whether a node is an LSTM whose hidden state is smaller than its cell state."""
    if node.target is not torch.ops.aten.lstm.input:
        return False
    hidden, cell = (state.meta["val"].shape[-1] for state in node.args[1])
    return hidden != cell


def _convert(context: Any, node: Any) -> None:
    _, _, weights = frontend._get_inputs(context, node, expected=9)[:3]
    if any(weight.val is None for weight in weights):
        raise NotImplementedError(
            "Core ML's lstm needs constant weights: set partitioner.take_over_constant_data: true, "
            "or do not compute them in forward()"
        )
    named = copy(node)
    named.name = f"{node.name}_lstm"
    named.outputs = [f"{node.name}_{output}" for output in ("outputs", "h", "c")]
    frontend.lstm(context, named)
    context.add(tuple(context[name] for name in named.outputs), node.name)
