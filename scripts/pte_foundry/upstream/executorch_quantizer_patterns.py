"""Fast pattern exports for executorch's ``CoreMLQuantizer``.

Stands against: executorch 1.5.1, torchao 0.18.0
Repairs: ``backends/apple/coreml/quantizer/_coreml_quantizer_utils.py``, which annotates a model by
    exporting some 400 small pattern modules with strict ``torch.export`` and matching each of them,
    at every call and for every model: a minute of fixed cost.
Remove when: upstream exports patterns once, or only those whose operators the model contains.

Three of its functions are replaced while ``fast_patterns`` is active:

- ``_get_aten_graph_module`` returns the pattern module without exporting it;
- ``annotate_weighted_mod_pattern`` and ``annotate_binary_op_act_pattern`` skip a pattern if one of
  its operators does not occur in the model, as then nothing can match. Any other pattern is
  exported (non-strict, which gives the same graph, once per process) and passed to upstream's own
  function.

``tests/unit/upstream/test_executorch_quantizer_patterns.py`` proves that operators, graphs and
annotations equal upstream's.
"""

import copy
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from executorch.backends.apple.coreml.quantizer import _coreml_quantizer_utils as upstream
from torch.fx import GraphModule, Node

from pte_foundry.upstream.versions import require

for _function, _parameters in (
    ("_get_aten_graph_module", "pattern example_inputs is_cuda"),
    ("annotate_weighted_mod_pattern", "model pattern_gm quantization_config filter_fn"),
    ("annotate_binary_op_act_pattern", "model pattern_gm quantization_config filter_fn"),
):
    require(upstream, _function, _parameters, patch=__name__)

# Functions whose operator is not called as they are.
_OPERATORS = {"iadd": "add_", "imul": "mul_"}


class Pattern(NamedTuple):
    """One of upstream's pattern modules, not exported yet."""

    module: torch.nn.Module
    example_inputs: tuple[torch.Tensor, ...]

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells patterns apart: the function that makes them and what it closes over."""
        values = inspect.getclosurevars(self.module.forward).nonlocals
        return type(self.module).__qualname__, *sorted(values.items())

    @property
    def operators(self) -> frozenset[str]:
        """Names of the aten operators that every match of this pattern contains."""
        values = inspect.getclosurevars(self.module.forward).nonlocals
        operation = values.get("mod_fn") or values["binary_op"]
        names = {_OPERATORS.get(operation.__name__, operation.__name__)}
        if values["act_fn"] is not None:
            names.add(values["act_fn"].__name__ + ("_" if values["act_in_place"] else ""))
        if type(self.module).__qualname__.startswith("_get_weighted_mod_bn_pattern."):
            names.add("batch_norm")
        return frozenset(names)

    def export(self) -> GraphModule:
        """The pattern's aten graph; a copy, because upstream's matcher changes what it is given."""
        if self.key not in _EXPORTED:
            _EXPORTED[self.key] = _export(self)
        return copy.deepcopy(_EXPORTED[self.key])


_EXPORTED: dict[tuple[Any, ...], GraphModule] = {}


def forget() -> None:
    """Forget the exported patterns, as in a new process; for measurements."""
    _EXPORTED.clear()


def _export(pattern: Pattern) -> GraphModule:
    program = torch.export.export(pattern.module, pattern.example_inputs, strict=False)
    module = program.module(check_guards=False)
    for node in list(module.graph.nodes):
        # Export writes mutated inputs back; torchao drops that from patterns, and so do we.
        if node.target is torch.ops.aten.copy_.default and not node.users:
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def _operator_names(graph: torch.fx.Graph) -> frozenset[str]:
    def name(node: Node) -> str:
        packet = getattr(node.target, "overloadpacket", None)
        return packet.__name__ if packet is not None else ""

    return frozenset(name(node) for node in graph.nodes if node.op == "call_function")


def _skipping(annotate: Callable[..., list], present: frozenset[str]) -> Callable[..., list]:
    def annotate_if_present(
        model: GraphModule, pattern: Pattern, config: Any, filter_fn: Any = None
    ) -> list:
        if not pattern.operators <= present:
            return []
        return annotate(model, pattern.export(), config, filter_fn)

    return annotate_if_present


@contextmanager
def fast_patterns(model: GraphModule) -> Iterator[None]:
    """Within this context upstream annotates ``model`` fast; not thread-safe.

    Args:
        model: the graph about to be annotated. Its dead code is removed, as upstream's first
            pattern would do; annotating adds no operators, so one look at it is enough.
    """
    model.graph.eliminate_dead_code()
    model.recompile()
    present = _operator_names(model.graph)
    weighted = _skipping(upstream.annotate_weighted_mod_pattern, present)
    binary = _skipping(upstream.annotate_binary_op_act_pattern, present)
    with (
        patch.object(upstream, "_get_aten_graph_module", Pattern),
        patch.object(upstream, "annotate_weighted_mod_pattern", weighted),
        patch.object(upstream, "annotate_binary_op_act_pattern", binary),
    ):
        yield
