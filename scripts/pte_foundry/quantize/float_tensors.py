"""Which tensors of a graph may be quantized: fp32 data, without attention masks.

Upstream (executorch 1.5.1, ``CoreMLQuantizer``) annotates every ``add``, ``mul`` and ``matmul``,
whatever its tensors hold. Three kinds must stay as they are:

- integers and sizes, which cannot be quantized (positions, ids);
- floats computed from those alone: in 256 steps, positions give wrong indices and rotations;
- sums of attention scores and a mask: 8 bits from -10,000 to 10 have steps of 78, so that all
  scores become equal.
"""

from collections.abc import Iterable

import torch
from torch.fx import Graph, GraphModule, Node
from torchao.quantization.pt2e.quantizer.quantizer import Q_ANNOTATION_KEY

from pte_foundry.models import operators

_WEIGHTED = {"linear", "conv1d", "conv2d", "conv3d"}
_SOFTMAX = {"softmax", "_softmax", "_safe_softmax", "log_softmax"}
_ATTENTION = "scaled_dot_product_attention"
_MASK = 3  # its position among the arguments of attention

_SUMS = {"add", "add_", "sub", "sub_"}
_PRODUCTS = {"mul", "mul_", "rsub"}
_VIEWS = {
    *("view", "reshape", "_unsafe_view", "expand", "permute", "transpose", "squeeze", "unsqueeze"),
    *("flatten", "unflatten", "slice", "select", "clone", "contiguous", "alias", "detach"),
    *("to", "_to_copy", "type_as", "float", "dropout", "dropout_"),
}


def is_float(node: Node) -> bool:
    """Returns whether the value of ``node`` is one fp32 tensor; true if that is not known."""
    value = node.meta.get("val")
    if value is None:
        return True
    return isinstance(value, torch.Tensor) and value.dtype == torch.float32


def data(module: GraphModule) -> set[Node]:
    """Returns the operators of ``module`` that compute floats from float inputs or parameters.

    What is computed from integers, constants and buffers alone is no data, unless a convolution or
    a linear computes it (from an image of integers, with frozen weights). A buffer that the program
    writes to is a state, so it is data.
    """
    parameters = {name for name, _ in module.named_parameters(remove_duplicate=False)}
    states = operators.states(module.graph)
    found: set[Node] = set()
    for node in module.graph.nodes:
        if node.op == "placeholder":
            holds_data = is_float(node)
        elif node.op == "get_attr":
            holds_data = node.target in parameters or node in states
        else:
            holds_data = not found.isdisjoint(node.all_input_nodes) or _operator(node) in _WEIGHTED
        several = isinstance(node.meta.get("val"), tuple | list)
        if holds_data and (several or is_float(node)):
            found.add(node)
    return found


def masked_scores(graph: Graph) -> set[Node]:
    """Returns the sums that a softmax reads, and what computes the masks of fused attention."""
    found: set[Node] = set()
    for node in graph.nodes:
        name = _operator(node)
        if name in _SOFTMAX:
            found |= _behind(node.args[:1], _SUMS)
        elif name == _ATTENTION:
            found |= _behind([*node.args[_MASK : _MASK + 1], node.kwargs.get("attn_mask")])
    return found


def forget_other_inputs(graph: Graph) -> None:
    """Removes from the annotations of ``graph`` every input that is not a tensor of fp32."""
    for node in graph.nodes:
        if note := node.meta.get(Q_ANNOTATION_KEY):
            note.input_qspec_map = {n: s for n, s in note.input_qspec_map.items() if is_float(n)}


def _behind(values: Iterable[object], collected: set[str] = _SUMS | _PRODUCTS) -> set[Node]:
    """Returns the operators named ``collected`` that compute ``values`` through nothing but views.

    Operands of the operators that are collected are followed as well.
    """
    found: set[Node] = set()
    seen: set[Node] = set()
    waiting = [value for value in values if isinstance(value, Node)]
    while waiting:
        node = waiting.pop()
        if node in seen:
            continue
        seen.add(node)
        name = _operator(node)
        if name in collected:
            found.add(node)
            waiting += node.all_input_nodes
        elif name in _VIEWS:
            waiting += node.all_input_nodes[:1]
    return found


def _operator(node: Node) -> str:
    packet = getattr(node.target, "overloadpacket", None)
    return "" if packet is None else packet.__name__
