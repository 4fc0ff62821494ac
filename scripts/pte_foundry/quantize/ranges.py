"""Tensors whose range 8 bits cannot represent in Core ML: they stay in floating point.

- A bound beyond fp16's: masks of ``-inf`` or ``torch.finfo().min``. The scale is infinite in fp16,
  and every other value becomes zero.
- A range so small that the scale is the observer's lower limit, 2**-23: untrained networks and dead
  layers. All values become zero, also those of other inputs. Weights of zero are fine.
"""

import logging
from collections.abc import Iterable, Mapping

import torch
from torch.fx import GraphModule
from torchao.quantization.pt2e import FakeQuantize

from pte_foundry.models import operators

LARGEST = torch.finfo(torch.float16).max
_SHOWN = 8

log = logging.getLogger(__name__)


def unsuited(
    activations: Mapping[str, FakeQuantize], constants: Mapping[str, FakeQuantize]
) -> dict[str, str]:
    """Returns the observers whose range 8 bits cannot represent, each with its range and why."""
    found = {}
    for name, observer in {**constants, **activations}.items():
        ranges = observer.activation_post_process
        low, high = ranges.min_val.min().item(), ranges.max_val.max().item()
        bound = max(abs(low), abs(high))
        if not bound <= LARGEST:
            found[name] = f"{low:g} to {high:g} (beyond {LARGEST:g}; a mask?)"
        elif (bound or name in activations) and _scale(observer) <= ranges.eps.item():
            found[name] = f"{low:g} to {high:g} (smaller than the smallest scale)"
    return found


def _scale(observer: FakeQuantize) -> float:
    scale, _ = observer.calculate_qparams()
    return float(scale.max())  # per channel: of the largest


def constants(
    prepared: GraphModule, activations: Mapping[str, FakeQuantize]
) -> dict[str, FakeQuantize]:
    """Returns the observers of weights and other constants, by the name of what they observe."""
    modules = dict(prepared.named_modules(remove_duplicate=False))
    found: dict[str, FakeQuantize] = {}
    for node in prepared.graph.nodes:
        observer = modules[node.target] if node.op == "call_module" else None
        if isinstance(observer, FakeQuantize) and observer not in activations.values():
            found[node.args[0].name] = observer
    return found


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
    """Logs which tensors stay in float, with their operators and ranges."""
    if not ranges:
        return
    nodes = {node.name: node for node in prepared.graph.nodes}
    texts = []
    for name, text in list(ranges.items())[:_SHOWN]:
        node = nodes.get(name.partition(":")[0])
        called = node is not None and node.op == "call_function"
        text = f"{operators.describe(node) if called else name}: {text}"
        texts.append(text)
    if len(ranges) > _SHOWN:
        texts.append(f"and {len(ranges) - _SHOWN} more")
    log.warning(
        "not quantized, because 8 bits cannot represent the range of their values: %s",
        "; ".join(texts),
    )
