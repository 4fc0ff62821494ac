"""Planner: the steps of a recorded run (see :mod:`pte_foundry.mil.plan`)."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pte_foundry.mil.instructions import Block, Instruction, Name, Scope, mark_last_uses
from pte_foundry.mil.parameters import WIDER
from pte_foundry.mil.record import Form, Record, names_of, state_of
from pte_foundry.mil.types import TensorType

# Bytes of the largest value that is computed early, or kept in fp32 for several operations.
_SMALL = 1 << 20
# Bytes of results that are counted together.
_COUNTED = 1 << 16
# The dtypes of values that need more than an upcast; None is that of strings.
_OTHERS = {None, *WIDER}


class Step(NamedTuple):
    """One instruction.

    Attributes:
        widened: values to upcast, the key of the fp32 form, and whether the value is dropped then.
        call: computes the results from the scope; None if the instruction runs as ever.
        dead: what is dropped once the results are computed.
        result: key, dtype and shape of the only result, if there is one; without a key it is not
            kept.
        forms: of all results; None for what is no tensor.
        count: bytes to count.
    """

    instruction: Instruction
    widened: tuple[tuple[str, Hashable, bool], ...]
    call: Callable[[Scope], Any] | None
    dead: tuple[Hashable, ...]
    result: tuple[str | None, torch.dtype, torch.Size] | None
    forms: tuple[Form | None, ...]
    count: int


class Plan(NamedTuple):
    """A block whose instructions are in the order of the plan, and their steps."""

    block: Block
    steps: list[Step]


def plan_of(record: Record) -> Plan:
    """Return the plan of a recorded run."""
    return _Planner(record).plan()


class _Planner:
    def __init__(self, record: Record) -> None:
        self._record = record
        self._block = _in_order(record)
        self._uncopied = record.uncopied()
        # By value: the key of its fp32 form, and the first and last instruction that needs it.
        self._wide: dict[str, tuple[Hashable, int, int]] = {}
        for number, instruction in enumerate(self._block.instructions):
            for name in self._upcast(instruction) if self._is_plain(instruction) else ():
                if _is_small(record.forms[name]):
                    key, first, _ = self._wide.get(name, (object(), number, number))
                    self._wide[name] = key, first, number

    def plan(self) -> Plan:
        steps, count = [], 0
        for number, instruction in enumerate(self._block.instructions):
            step = self._step(number, instruction)
            count += step.count
            counted = count if count >= _COUNTED else 0
            steps.append(step._replace(count=counted))
            count -= counted
        return Plan(self._block, steps)

    def _is_plain(self, instruction: Instruction) -> bool:
        """Whether all that an instruction needs follows from the shapes of its arguments."""
        names, forms = names_of(instruction), self._record.forms
        types = [output.type for output in instruction.operation.outputs]
        return (
            not instruction.blocks
            and not (instruction.kernel.sized and names)
            and all(variable.parameter.tensors for variable in instruction.variables)
            and all(name in forms and forms[name].dtype not in _OTHERS for name in names)
            and all(isinstance(t, TensorType) and t.dtype.torch not in _OTHERS for t in types)
        )

    def _upcast(self, instruction: Instruction) -> list[str]:
        """The fp16 values that an instruction takes in fp32."""
        names = dict.fromkeys(names_of(instruction, upcast=True))
        return [name for name in names if self._record.forms[name].dtype is torch.float16]

    def _step(self, number: int, instruction: Instruction) -> Step:
        outputs = [output.name for output in instruction.operation.outputs]
        forms = tuple(self._record.forms.get(name) for name in outputs)
        if not self._is_plain(instruction):
            return Step(instruction, (), None, (), None, forms, 0)
        dead = [name for name in instruction.last_uses if name not in outputs]
        keys, widened = {}, []
        for name in self._upcast(instruction):
            key, first, last = self._wide.get(name, (object(), number, number))
            keys[name] = key
            if first == number:
                drop = name in dead and name not in names_of(instruction, upcast=False)
                if drop:
                    dead.remove(name)
                widened.append((name, key, drop))
            if last == number:
                dead.append(key)
        result = None
        if len(outputs) == 1:
            kept = None if outputs[0] in instruction.last_uses else outputs[0]
            result = (kept, *forms[0])
        uncopied = outputs and outputs[0] in self._uncopied
        call = _read(state_of(instruction)) if uncopied else _call(instruction, keys)
        count = sum(form.shape.numel() * form.dtype.itemsize for form in forms)
        return Step(instruction, tuple(widened), call, tuple(dead), result, forms, count)


def _is_small(form: Form) -> bool:
    return form.shape.numel() * torch.float32.itemsize <= _SMALL


def _in_order(record: Record) -> Block:
    """The block with small linears of one value next to each other.

    A product with a large matrix leaves nothing else in the processor's caches, so that what comes
    next takes several times as long. The projections of a block of a transformer have one such gap
    in this order, instead of three.
    """
    block = record.block
    if any(instruction.blocks for instruction in block.instructions):
        return block
    together: dict[str, list[Instruction]] = {}
    for instruction in block.instructions:
        if (source := _multiplied(instruction, record)) is not None:
            together.setdefault(source, []).append(instruction)
    ordered: list[Instruction] = []
    for instruction in block.instructions:
        source = _multiplied(instruction, record)
        ordered += [instruction] if source is None else together.pop(source, [])
    instructions = tuple(replace(instruction, last_uses=[]) for instruction in ordered)
    block = replace(block, instructions=instructions)
    mark_last_uses(block, is_function=True)
    return block


def _multiplied(instruction: Instruction, record: Record) -> str | None:
    """The value that a linear with constant weights and a small result multiplies."""
    names, outputs = names_of(instruction), instruction.operation.outputs
    if instruction.operation.op != "linear" or len(names) != 1:
        return None
    return names[0] if _is_small(record.forms[outputs[0].name]) else None


def _read(state: str) -> Callable[[Scope], Tensor]:
    """A ``read_state`` without a copy."""

    def read(scope: Scope) -> Tensor:
        held = scope[state]
        return held if held.is_contiguous() else held.clone()

    return read


def _call(instruction: Instruction, keys: dict[str, Hashable]) -> Callable[[Scope], Any]:
    """A call of an operation's function: constants are bound, values come from the scope.

    Its source is written out as ``run(x=scope[a0], y=a1)``: three times as fast as ``run(**...)``.
    The names in it are those of the function's parameters.

    Args:
        keys: of the values in fp32.
    """
    bound: list[Any] = []

    def place(value: Any) -> str:
        bound.append(value)
        return f"a{len(bound) - 1}"

    constants = instruction.constants
    if instruction.operation.op == "linear" and _is_zero(constants.get("bias")):
        constants = constants | {"bias": None}  # coremltools gives every linear one
    parts = [f"{name}={place(value)}" for name, value in constants.items()]
    for name, parameter, operands in instruction.variables:
        texts = []
        for operand in operands:
            if isinstance(operand, Name):
                key = keys.get(operand, operand) if parameter.upcast else operand
                texts.append(f"scope[{place(key)}]")
            else:
                texts.append(place(parameter.convert((operand,))[0]))
        text = f"({', '.join(texts)},)" if parameter.variadic else texts[0]
        parts.append(f"{name}={text}")
    return _written(", ".join(parts), len(bound))(instruction.kernel.run, *bound)


def _is_zero(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.any()


@cache
def _written(arguments: str, count: int) -> Callable[..., Callable[[Scope], Any]]:
    bound = "".join(f", a{number}" for number in range(count))
    return eval(f"lambda run{bound}: lambda scope: run({arguments})", {})
