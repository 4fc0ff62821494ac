"""Activations whose range 8 bits cannot represent in Core ML: they stay in floating point.

- A bound beyond fp16's: masks of ``-inf`` or ``torch.finfo().min``. The scale is infinite in fp16,
  and every other value becomes zero.
- A range so small that the scale is the observer's lower limit, 2**-23: untrained networks and dead
  layers. All values become zero. A range of exactly zero is fine.
"""

import logging
import math
from collections.abc import Iterable, Mapping

import torch
from torch.fx import GraphModule
from torchao.quantization.pt2e import FakeQuantize

from pte_foundry.models import operators

LARGEST = torch.finfo(torch.float16).max
_SHOWN = 8

log = logging.getLogger(__name__)


def unsuited(observers: Mapping[str, FakeQuantize]) -> dict[str, str]:
    """Returns the observers whose range 8 bits cannot represent, each with its range and why."""
    found = {}
    for name, observer in observers.items():
        ranges = observer.activation_post_process
        low, high = ranges.min_val.min().item(), ranges.max_val.max().item()
        bound = max(abs(low), abs(high))
        if not bound <= LARGEST:
            found[name] = f"{low:g} to {high:g} (beyond {LARGEST:g}; a mask?)"
        elif 0 < bound < math.inf and _scale(observer) <= ranges.eps.item():
            found[name] = f"{low:g} to {high:g} (smaller than the smallest scale)"
    return found


def _scale(observer: FakeQuantize) -> float:
    scale, _ = observer.calculate_qparams()
    return float(scale.min())


def leave_in_float(prepared: GraphModule, observers: Iterable[FakeQuantize]) -> None:
    """Removes observers, so that what they observe is not quantized."""
    removed = list(observers)
    modules = dict(prepared.named_modules(remove_duplicate=False))
    for node in list(prepared.graph.nodes):
        if node.op == "call_module" and any(modules[node.target] is one for one in removed):
            node.replace_all_uses_with(node.args[0])
            prepared.graph.erase_node(node)
    prepared.recompile()


def warn(prepared: GraphModule, ranges: Mapping[str, str]) -> None:
    """Logs which activations stay in float, with their operators and ranges."""
    if not ranges:
        return
    nodes = {node.name: node for node in prepared.graph.nodes}
    texts = []
    for name, text in list(ranges.items())[:_SHOWN]:
        node = nodes.get(name.partition(":")[0])
        called = operators.describe(node) if node is not None and node.op != "placeholder" else name
        texts.append(f"{called}: {text}")
    if len(ranges) > _SHOWN:
        texts.append(f"and {len(ranges) - _SHOWN} more")
    log.warning(
        "not quantized, because 8 bits cannot represent their range on the calibration samples: %s",
        "; ".join(texts),
    )
