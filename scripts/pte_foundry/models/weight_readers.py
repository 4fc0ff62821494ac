"""Why the weight of a linear or an embedding cannot be replaced by a quantized one.

torchao's quantized tensors implement ``linear`` and ``embedding``. A module that reads its weight
in any other way (a position table that indexes it, ``x @ self.weight``) cannot be exported with
one. The exported program shows how each weight is read, also by other modules.
"""

from torch import nn
from torch.export import ExportedProgram
from torch.fx import Node

_NO_PARAMETER = "its weight is no parameter, but computed (weight norm …) or a buffer"


def obstacles(model: nn.Module, *programs: ExportedProgram) -> dict[str, str]:
    """Returns the modules whose 2-D weight cannot be quantized, each with the reason.

    Args:
        model: the eager model.
        programs: that were exported from it; without any, how weights are read is not checked.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    readers: dict[int, set[str]] = {}
    for program in programs:
        for weight, operators in _readers(parameters, program).items():
            readers.setdefault(weight, set()).update(operators)
    found = {}
    for name, part in model.named_modules():
        weight = getattr(part, "weight", None)
        if getattr(weight, "ndim", None) != 2:
            continue
        key = f"{name}.weight" if name else "weight"
        if key not in parameters:
            found[name] = _NO_PARAMETER
        elif others := sorted(readers.get(id(weight), set()) - {"linear", "embedding"}):
            found[name] = f"its weight is read by {', '.join(others)}"
    return found


def _readers(parameters: dict[str, nn.Parameter], program: ExportedProgram) -> dict[int, set[str]]:
    """Returns the operators that read each parameter directly, by the parameter's ``id``."""
    names = program.graph_signature.inputs_to_parameters
    found: dict[int, set[str]] = {}
    for node in program.graph.nodes:
        parameter = parameters.get(names.get(node.name, "")) if node.op == "placeholder" else None
        if parameter is not None:
            found.setdefault(id(parameter), set()).update(_role(u, node) for u in node.users)
    return found


def _role(user: Node, weight: Node) -> str:
    positions = [at for at, argument in enumerate(user.args) if argument is weight]
    if (str(user.target), positions) == ("aten.linear.default", [1]):
        return "linear"
    if (str(user.target), positions) == ("aten.embedding.default", [0]):
        return "embedding"
    return "the output" if user.op == "output" else str(user.target)
