"""Planner: a recorded run, written out as one function (see :mod:`pte_foundry.mil.plan`).

Each value is a local variable. An instruction becomes these lines, as far as it needs them::

    w7 = v7.float()                         # fp16 that it takes in fp32
    v9 = c4(x=w7, y=c5)                     # its function, with constants bound
    del v7, w7                              # what nobody reads any more
    if v9.dtype is single: v9 = v9.half()   # the one rounding
    if v9.shape != c6 or v9.dtype is not half: return 9, locals()

The source contains no names of the program, only those of our functions' parameters.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import CodeType
from typing import Any

import torch
from torch import Tensor

from pte_foundry.mil.instructions import Block, Instruction, Name, mark_last_uses
from pte_foundry.mil.parameters import WIDER
from pte_foundry.mil.record import Form, Record, names_of, state_of
from pte_foundry.mil.run import check, execute
from pte_foundry.mil.types import TensorType, Value

FILE = "<plan>"
"""The file name of the functions, in tracebacks."""

# Bytes of the largest value that is computed early, or kept in fp32 for several operations.
_SMALL = 1 << 20
# Instructions, and bytes of their results, that are counted together.
_STEPS, _BYTES = 16, 1 << 16
# The dtypes of values that need more than an upcast; None is that of strings.
_OTHERS = {None, *WIDER}


@dataclass
class Plan:
    """A recorded run as a function.

    Attributes:
        block: with the instructions in the order of the plan.
        follow: takes the scope and ``Meter.take``; returns the outputs, or the number of the
            instruction whose results differ from the recorded ones, and its variables.
        variables: of the values, by name.
        lines: the instruction of each line; None where errors have its name already.
    """

    block: Block
    follow: Callable[..., tuple[Any, ...]]
    variables: dict[str, str]
    lines: list[Instruction | None]


def plan_of(record: Record) -> Plan:
    """Return the plan of a recorded run of a block without nested blocks."""
    return _Planner(record).plan()


class _Planner:
    def __init__(self, record: Record) -> None:
        self._forms = record.forms
        self._block = _in_order(record)
        self._uncopied = record.uncopied()
        self._bound: dict[str, Any] = {"half": torch.float16, "single": torch.float32}
        self._places: dict[int, str] = {}
        self._variables: dict[str, str] = {}
        self._wide: dict[str, str] = {}  # the variables of fp32 forms that exist, by value
        self._source = ["def follow(scope, take):"]
        self._lines: list[Instruction | None] = [None, None]
        # How often small values are yet to be taken in fp32, by several instructions.
        self._upcasts = Counter(
            name
            for instruction in self._block.instructions
            if self._is_plain(instruction)
            for name in self._upcast(instruction)
            if _is_small(self._forms[name])
        )

    def plan(self) -> Plan:
        for given in self._block.inputs:
            self._write(None, f"{self._variable(given.name)} = scope.pop({self._bind(given.name)})")
        steps = count = 0
        for number, instruction in enumerate(self._block.instructions):
            lines = self._plain if self._is_plain(instruction) else self._other
            for line in lines(number, instruction):
                self._write(instruction if lines == self._plain else None, line)
            steps += lines == self._plain
            forms = [self._forms.get(output.name) for output in instruction.operation.outputs]
            count += sum(form.shape.numel() * form.dtype.itemsize for form in forms if form)
            if steps >= _STEPS or count >= _BYTES:
                self._write(instruction, f"take({steps}, {count})")
                steps = count = 0
        outputs = "".join(f"{self._operand(output)}, " for output in self._block.outputs)
        self._write(None, f"return None, ({outputs})")
        code = compile("\n".join(self._source), FILE, "exec")
        return Plan(self._block, _defined(code, self._bound), self._variables, self._lines)

    def _write(self, instruction: Instruction | None, line: str) -> None:
        self._source.append(f"    {line}")
        self._lines.append(instruction)

    def _bind(self, value: Any) -> str:
        """The name of something that is no value of a run."""
        place = self._places.setdefault(id(value), f"c{len(self._bound)}")
        self._bound[place] = value
        return place

    def _variable(self, name: str) -> str:
        return self._variables.setdefault(name, f"v{len(self._variables)}")

    def _operand(self, operand: object) -> str:
        return self._variable(operand) if isinstance(operand, Name) else self._bind(operand)

    def _is_plain(self, instruction: Instruction) -> bool:
        """Whether all that an instruction needs follows from the shapes of its arguments."""
        names, outputs = names_of(instruction), instruction.operation.outputs
        result = instruction.kernel.run.__annotations__.get("return")
        return (
            not (instruction.kernel.sized and names)
            and (len(outputs) != 1 or result is Tensor)
            and all(variable.parameter.tensors for variable in instruction.variables)
            and all(self._dtype(name) not in _OTHERS for name in names)
            and all(isinstance(o.type, TensorType) for o in outputs)
            and all(o.type.dtype.torch not in _OTHERS for o in outputs)
        )

    def _dtype(self, name: str) -> torch.dtype | None:
        return self._forms[name].dtype if name in self._forms else None

    def _upcast(self, instruction: Instruction) -> list[str]:
        """The fp16 values that an instruction takes in fp32."""
        names = dict.fromkeys(names_of(instruction, upcast=True))
        return [name for name in names if self._dtype(name) is torch.float16]

    def _other(self, number: int, instruction: Instruction) -> Iterator[str]:
        """The lines of an instruction that runs as ever."""
        names = list(dict.fromkeys(names_of(instruction)))
        given = "".join(f"{self._variable(name)}, " for name in names)
        yield f"values = {self._bind(_as_ever(instruction, names))}({given})"
        yield from self._dropped(n for n in instruction.last_uses if n in self._variables)
        for place, output in enumerate(instruction.operation.outputs):
            variable = self._variable(output.name)
            yield f"{variable} = values[{place}]"
            if output.name in self._forms:
                yield from self._compared(number, output.name)
        yield "values = None"

    def _plain(self, number: int, instruction: Instruction) -> Iterator[str]:
        outputs = [output.name for output in instruction.operation.outputs]
        dead = [name for name in instruction.last_uses if name not in outputs]
        unshared = []
        for name in self._upcast(instruction):
            if name not in self._wide:
                self._wide[name] = f"w{self._variable(name)[1:]}"
                yield f"{self._wide[name]} = {self._variable(name)}.float()"
                if name in dead and name not in names_of(instruction, upcast=False):
                    dead.remove(name)
                    yield from self._dropped([name])
            self._upcasts[name] -= 1
            if self._upcasts[name] <= 0:
                unshared.append(name)
        targets = ", ".join(map(self._variable, outputs))
        called = self._called(instruction, outputs)
        yield f"{targets} = {called}" if targets else called
        yield from self._dropped(dead)
        for name in unshared:
            yield f"del {self._wide.pop(name)}"
        for output in instruction.operation.outputs:
            variable, declared = self._variable(output.name), output.type.dtype.torch
            computed = instruction.kernel.casts or any(
                p.upcast or p.any_precision for p in instruction.kernel.parameters.values()
            )
            if declared is torch.float16 and computed:
                yield f"if {variable}.dtype is single: {variable} = {variable}.half()"
            elif computed and len(outputs) == 1:
                checked = f"{self._bind(check)}({self._bind(instruction)}, {variable})"
                other = f"{variable}.dtype is not {self._bind(declared)}"
                yield f"if {other}: ({variable},) = {checked}"
            yield from self._compared(number, output.name)
        yield from self._dropped(name for name in outputs if name in instruction.last_uses)

    def _dropped(self, names: Any) -> Iterator[str]:
        for name in names:
            yield f"del {self._variable(name)}"

    def _compared(self, number: int, name: str) -> Iterator[str]:
        variable, form = self._variable(name), self._forms[name]
        dtype = "half" if form.dtype is torch.float16 else self._bind(form.dtype)
        shape = self._bind(form.shape)
        differs = f"{variable}.shape != {shape} or {variable}.dtype is not {dtype}"
        yield f"if {differs}: return {number}, locals()"

    def _called(self, instruction: Instruction, outputs: list[str]) -> str:
        """The call of an operation's function."""
        if outputs and outputs[0] in self._uncopied:
            return f"{self._bind(_held)}({self._variable(state_of(instruction))})"
        kernel, arguments = instruction.kernel, dict(instruction.constants)
        if kernel.op == "linear" and _is_zero(arguments.get("bias")):
            arguments["bias"] = None  # coremltools gives every linear one
        texts = {name: self._bind(value) for name, value in arguments.items()}
        for name, parameter, operands in instruction.variables:
            parts = []
            for operand in operands:
                if not isinstance(operand, Name):
                    operand = parameter.convert((operand,))[0]
                wide = parameter.upcast and operand in self._wide if isinstance(operand, str) else 0
                parts.append(self._wide[operand] if wide else self._operand(operand))
            texts[name] = f"({', '.join(parts)},)" if parameter.variadic else parts[0]
        if kernel.direct is not None and set(texts) == set(kernel.parameters):
            ordered = ", ".join(texts[name] for name in kernel.parameters)
            return f"{self._bind(kernel.direct)}({ordered})"
        given = ", ".join(f"{name}={text}" for name, text in texts.items())
        return f"{self._bind(kernel.run)}({given})"


def _defined(code: CodeType, bound: dict[str, Any]) -> Callable[..., tuple[Any, ...]]:
    exec(code, bound)
    return bound.pop("follow")


def _as_ever(instruction: Instruction, names: list[str]) -> Callable[..., tuple[Value, ...]]:
    def run(*values: Value) -> tuple[Value, ...]:
        with torch.inference_mode(False):  # in it, limits would see less
            return execute(instruction, dict(zip(names, values, strict=True)))

    return run


def _held(state: Tensor) -> Tensor:
    """``read_state`` without a copy."""
    return state if state.is_contiguous() else state.clone()


def _is_zero(value: Any) -> bool:
    return isinstance(value, Tensor) and not value.any()


def _is_small(form: Form) -> bool:
    return form.shape.numel() * torch.float32.itemsize <= _SMALL


def _in_order(record: Record) -> Block:
    """The block with small linears of one value next to each other.

    A product with a large matrix leaves nothing else in the processor's caches, so that what comes
    next takes several times as long. The projections of a block of a transformer have one such gap
    in this order, instead of three.
    """
    together: dict[str, list[Instruction]] = {}
    for instruction in record.block.instructions:
        if (source := _multiplied(instruction, record)) is not None:
            together.setdefault(source, []).append(instruction)
    ordered: list[Instruction] = []
    for instruction in record.block.instructions:
        source = _multiplied(instruction, record)
        ordered += [instruction] if source is None else together.pop(source, [])
    instructions = tuple(replace(instruction, last_uses=[]) for instruction in ordered)
    block = replace(record.block, instructions=instructions)
    mark_last_uses(block, is_function=True)
    return block


def _multiplied(instruction: Instruction, record: Record) -> str | None:
    """The value that a linear with constant weights and a small result multiplies."""
    names, outputs = names_of(instruction), instruction.operation.outputs
    if instruction.operation.op != "linear" or len(names) != 1:
        return None
    return names[0] if _is_small(record.forms[outputs[0].name]) else None
