"""Conditions of known device issues, and what they can ask of a program."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pte_foundry.mil.types import TensorType
from pte_foundry.validate.hazards_schema import IssueEffect

if TYPE_CHECKING:
    from pte_foundry.formats.inspect_pte import DelegateDescription
    from pte_foundry.mil import Program
    from pte_foundry.mil.instructions import Operation

Unit = Literal["cpu", "gpu", "ne"]


@dataclass(frozen=True)
class Call:
    """One operation of a program, with what conditions ask for.

    Attributes:
        operation: the operation.
        constants: its constant arguments by parameter.
        types: declared types of the function's inputs and of all computed values, by name.
        makers: the operation that computes each value, by name.
    """

    operation: Operation
    constants: Mapping[str, Any]
    types: Mapping[str, Any]
    makers: Mapping[str, Operation]

    def shape(self, parameter: str) -> tuple[int | None, ...]:
        """The shape of an argument; None in it where it varies, empty if it is unknown."""
        constant = self.constants.get(parameter)
        if hasattr(constant, "shape"):
            return tuple(constant.shape)
        declared = self._type(parameter)
        return (declared.shape or ()) if isinstance(declared, TensorType) else ()

    def dtype(self, parameter: str) -> str:
        """MIL's name of the dtype of an argument that is no constant; "" if it is one."""
        declared = self._type(parameter)
        return declared.dtype.name if isinstance(declared, TensorType) else ""

    def numbers(self, parameter: str) -> list[int]:
        """A constant argument of integers as a list; empty if it is absent or computed."""
        constant = self.constants.get(parameter)
        if isinstance(constant, int):
            return [constant]
        if hasattr(constant, "tolist"):
            constant = constant.flatten().tolist()
        return [int(n) for n in constant or ()]

    def maker(self, parameter: str) -> str:
        """The type of the operation that computes an argument; "" for inputs and constants."""
        names = self.operation.inputs.get(parameter, ())
        return self.makers[names[0]].op if names and names[0] in self.makers else ""

    def _type(self, parameter: str) -> Any:
        names = self.operation.inputs.get(parameter, ())
        return self.types.get(names[0]) if names else None


@dataclass(frozen=True)
class Artifact:
    """One delegate, for conditions on the whole program."""

    description: DelegateDescription
    program: Program
    function: str
    calls: tuple[Call, ...]

    @property
    def float16(self) -> bool:
        """Whether anything computes in fp16."""
        return "float16" in self.description.compute_dtypes


@dataclass(frozen=True)
class Entry:
    """One known issue.

    Attributes:
        op: the MIL operation, or "*" for the whole program.
        condition: in words, for the report.
        effect: what happens: the process crashes, the numbers are wrong, the program is refused, or
            the unit is not used.
        units: where; the target must allow one of them.
        source: report or test, with its date.
        when: decides on a :class:`Call`, or for "*" on an :class:`Artifact`; by default the
            operation alone matches.
        systems: first and last affected iOS version; None for no limit.
    """

    op: str
    condition: str
    effect: IssueEffect
    units: tuple[Unit, ...]
    source: str
    when: Callable[[Any], bool] = lambda _: True
    systems: tuple[int | None, int | None] = (None, None)

    @property
    def os(self) -> str:
        """The affected systems in words."""
        first, last = self.systems
        if first is None and last is None:
            return "all"
        if last is None:
            return f"iOS {first} and later"
        return f"before iOS {last + 1}" if first is None else f"iOS {first} to {last}"


def attention(call: Call, *, head: int = 0, length: int = 1, batch: int = 1) -> bool:
    """Whether an SDPA in fp16 has a larger head, and at least this query length and batch."""
    shape = call.shape("query")
    return (
        call.dtype("query") == "fp16"
        and len(shape) >= 3
        and (shape[-1] or 0) > head
        and (shape[-2] is None or shape[-2] >= length)
        and (shape[0] is None or shape[0] >= batch)
    )


def rough_stride(call: Call) -> bool:
    """Whether a stride has a factor for which compilation takes minutes."""
    return any(n % p == 0 for n in call.numbers("strides") for p in (5, 7, 11))


def narrowed(call: Call) -> bool:
    """Whether the data of a gather or topk, not its indices, is cast to 16 bits."""
    return call.dtype("x") in ("int16", "uint16") and call.maker("x") == "cast"


def odd_output_shape(call: Call) -> bool:
    """Whether a transposed convolution has another output shape than its padding gives."""
    wanted, kernel = call.numbers("output_shape")[2:], call.shape("weight")[2:]
    sizes, rank = call.shape("x")[2:], len(wanted)
    strides = call.numbers("strides") or [1] * rank
    dilations = call.numbers("dilations") or [1] * rank
    pad = call.numbers("pad") or [0] * 2 * rank
    if not rank or None in (*sizes, *kernel) or call.constants.get("pad_type") == "same":
        return False
    full = [
        (n - 1) * step + spread * (k - 1) + 1
        for n, step, spread, k in zip(sizes, strides, dilations, kernel, strict=True)
    ]
    given = [n - pad[2 * i] - pad[2 * i + 1] for i, n in enumerate(full)]
    # output_padding of torch adds less than a stride at the end.
    return any(
        not have <= want < have + step
        for have, want, step in zip(given, wanted, strides, strict=True)
    )


def large_heads(artifact: Artifact) -> bool:
    """Whether two attentions in fp16 have a head of more than 256."""
    calls = [c for c in artifact.calls if c.operation.op == "scaled_dot_product_attention"]
    return sum(attention(call, head=256) for call in calls) >= 2


def state_sizes(artifact: Artifact) -> bool:
    """Whether the last size of a state is not a multiple of 32."""
    states = artifact.program.functions[artifact.function].states
    return any((s.type.tensor.shape or (32,))[-1] % 32 for s in states if s.type.tensor.shape)


def returns_what_it_writes(artifact: Artifact) -> bool:
    """Whether an output of the function is a value that it writes into a state."""
    outputs = {o.name for o in artifact.program.functions[artifact.function].outputs}
    written = {
        name
        for call in artifact.calls
        if call.operation.op == "write_state"
        for name in call.operation.inputs.get("data", ())
    }
    return not outputs.isdisjoint(written)


def flexible(artifact: Artifact) -> bool:
    """Whether an input has a range of sizes."""
    inputs = artifact.program.functions[artifact.function].inputs
    return any(low != high for i in inputs for low, high in i.ranges)


def enumerated_norms(artifact: Artifact) -> bool:
    """Whether an input has enumerated shapes and the program a layer norm."""
    inputs = artifact.program.functions[artifact.function].inputs
    return any(i.shapes for i in inputs) and "layer_norm" in artifact.description.ops


def palettized(artifact: Artifact) -> bool:
    """Whether weights are stored as a look-up table."""
    return "constexpr_lut_to_dense" in artifact.description.ops
