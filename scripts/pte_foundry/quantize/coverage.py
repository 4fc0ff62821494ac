"""How much of a program's weights is quantized."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from pte_foundry.errors import ModelError
from pte_foundry.upstream.torch_operators import mutates


@dataclass(frozen=True)
class Coverage:
    """Numbers of elements: of the quantized weights, and of the floats by name, largest first.

    ``matrices`` are the floats with two or more dimensions, which a recipe could compress. Weights
    are parameters, buffers and constants that an operator reads; scales and zero points do not
    count, nor do buffers that the program writes to.
    """

    quantized: int
    floats: dict[str, int]
    matrices: frozenset[str] = frozenset()

    @property
    def values(self) -> int:
        """All elements."""
        return self.quantized + sum(self.floats.values())

    @property
    def share(self) -> float:
        """Quantized elements over all, 0 to 1; 0 without weights."""
        return self.quantized / self.values if self.values else 0.0

    @property
    def facts(self) -> dict[str, Any]:
        """What the validation report has of it (``validate.schema.Weights``)."""
        left = [(name, size) for name, size in self.floats.items() if name in self.matrices]
        return {
            "compressed": round(self.share, 4),
            "values": self.values,
            "floats": dict(left[:_LISTED]),
        }

    def __str__(self) -> str:
        largest = [name for name, size in self.floats.items() if size > 1][:_SHOWN]
        rest = f"; the largest others: {', '.join(largest)}" if largest else ""
        return f"quantized {self.share:.1%} of the weights{rest}"


_SHOWN = 5
_LISTED = 20


def check_compressed(found: Coverage) -> None:
    """Refuses programs that have weights, and none that is compressed.

    They would be as large as without the recipe. PT2E can quantize activations alone.

    Raises:
        ModelError: with the largest weights.
    """
    floats = [name for name, size in found.floats.items() if size > 1]
    if floats and not found.share:
        raise ModelError(
            "the recipe compresses no weight of this model, whose largest are "
            f"{', '.join(floats[:_SHOWN])}; leave it out for this model, or use a recipe that fits "
            "them: `scheme: quantize` for linears and embeddings, `scheme: pt2e` for convolutions, "
            "a target's op_linear_quantizer_config for both"
        )


def coverage(*methods: ExportedProgram) -> Coverage:
    """Returns which weights of a program's methods are quantized: a dequantization reads them.

    Methods share weights of one name, and a tied weight that was quantized twice is one.
    """
    quantized: dict[str, Tensor] = {}
    floats: dict[str, int] = {}
    matrices = set()
    for program in methods:
        for node, name in _weights(program):
            value = node.meta["val"]
            reading = [user for user in node.users if _dequantizes(user)]
            if any(_unpacks(user) for user in node.users):  # a tensor subclass of torchao
                quantized[name] = _contents(program, name)
            elif reading:
                if reading[0].args[0] is node:  # else it is a scale
                    quantized[name] = _contents(program, name)
            elif value.is_floating_point() and not _written(node):
                floats[name] = value.numel()
                matrices |= {name} if value.dim() > 1 else set()
    ordered = dict(sorted(floats.items(), key=lambda item: -item[1]))
    return Coverage(_elements(quantized.values()), ordered, frozenset(matrices))


def _contents(program: ExportedProgram, name: str) -> Tensor:
    """A quantized weight as integers, one for each of its values."""
    found = program.state_dict.get(name)
    found = program.constants[name] if found is None else found
    if hasattr(found, "__tensor_flatten__"):
        return getattr(found, found.__tensor_flatten__()[0][0])
    return found.detach()


def _elements(weights: Iterable[Tensor]) -> int:
    """The elements of tensors, those of equal ones once. Only tensors of one shape are compared."""
    by_shape: dict[Any, list[Tensor]] = {}
    for weight in weights:
        seen = by_shape.setdefault((weight.shape, weight.dtype), [])
        if not any(torch.equal(weight, other) for other in seen):
            seen.append(weight)
    return sum(weight.numel() for seen in by_shape.values() for weight in seen)


def _written(node: Node) -> bool:
    """Whether a buffer, or a view of it, is written to: it is a state and no weight."""
    return any(
        user.args
        and user.args[0] is node
        and (mutates(user.target) or (getattr(user.target, "is_view", False) and _written(user)))
        for user in node.users
    )


def _weights(program: ExportedProgram) -> Iterator[tuple[Node, str]]:
    """Yields the parameters, buffers and constants that an operator reads, and their names."""
    signature = program.graph_signature
    names = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    for node in program.graph.nodes:
        if node.op == "placeholder" and node.name in names and node.users:
            yield node, names[node.name]


def _unpacks(node: Node) -> bool:
    return "access_subclass_inner_tensor" in str(node.target)


def _dequantizes(node: Node) -> bool:
    return "dequantize" in str(node.target)
