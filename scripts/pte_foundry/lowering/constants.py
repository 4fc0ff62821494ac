"""Constants of a torch program that are finite, and infinite in fp16.

coremltools casts them without a word. ``torch.finfo(torch.float32).min``, the usual value of a
mask, becomes -inf: harmless before a softmax, and nan where it is multiplied by 0.
"""

import math
from itertools import chain
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node

FP16_MAX = torch.finfo(torch.float16).max


def beyond_fp16(program: ExportedProgram) -> dict[str, float]:
    """Returns the constant with the largest magnitude of each operator that has one beyond fp16.

    Args:
        program: an edge program, whose nodes have debug handles.

    Returns:
        Debug handle, as a string, to a finite number: a scalar argument, or an element of a
        parameter, buffer or lifted constant.
    """
    tensors = _large_tensors(program)
    graphs = (m.graph for m in program.graph_module.modules() if isinstance(m, GraphModule))
    found: dict[str, float] = {}
    for node in chain.from_iterable(graph.nodes for graph in graphs):
        handle = node.meta.get("debug_handle")
        if node.op != "call_function" or not isinstance(handle, int):
            continue
        values = [*_scalars([*node.args, *node.kwargs.values()])]
        values += [tensors[n.name] for n in node.all_input_nodes if n.name in tensors]
        large = [value for value in values if FP16_MAX < abs(value) < math.inf]
        if large:
            found[str(handle)] = max(large, key=abs)
    return found


def _large_tensors(program: ExportedProgram) -> dict[str, float]:
    """The finite element with the largest magnitude, by the placeholder of a constant tensor."""
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    found = {}
    for placeholder, target in names.items():
        value = program.state_dict.get(target, program.constants.get(target))
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.numel():
            low, high = (float(bound) for bound in value.detach().aminmax())
            found[placeholder] = max(low, high, key=abs)
    return found


def _scalars(arguments: list[Any]) -> list[float]:
    found = []
    for argument in arguments:
        if isinstance(argument, (list, tuple)):
            found += _scalars(list(argument))
        elif isinstance(argument, (int, float)) and not isinstance(argument, (bool, Node)):
            found.append(float(argument))
    return found
