"""Plans: what is the same in every run on inputs of the same shapes, found out once.

:mod:`pte_foundry.mil.run` looks at each operation as if it were new: it converts arguments, watches
what is allocated, and compares results with their declared types. For an operation of microseconds
that takes longer than the operation. So the second run on inputs of some shapes is recorded, and
later ones follow a plan. It gives the same results to the bit:

- A step has one check: is the result of the declared dtype, and of the recorded shape? While all
  are, every operation gets arguments of the shapes with which it ran within the limits. Where one
  differs, :mod:`pte_foundry.mil.run` takes over behind it.
- fp16 that several operations need in fp32 is upcast once for all of them, unless it is large.
- ``read_state`` gives the state's own memory instead of a copy, if the program does not write to
  the state while that, or a view of it, is in use.
- Operations whose results follow from more than the shapes of their arguments (those with nested
  blocks, or that take numbers) run as ever.

A run with a tap follows no plan, since a tap may keep what it is given.
"""

from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pte_foundry import limits
from pte_foundry.mil.instructions import Block, Instruction, Name, Scope
from pte_foundry.mil.parameters import WIDER
from pte_foundry.mil.record import Record, names_of, state_of
from pte_foundry.mil.run import Tap, check, execute, publish, raise_named, run_block
from pte_foundry.mil.types import TensorType, Value

# Shapes of inputs that a function remembers: those used last.
_PLANS = 16
# Bytes of the largest fp32 form that is kept for several operations.
_SHARED = 1 << 20
# Bytes of results that are counted together.
_COUNTED = 1 << 16
# The dtypes of values that need more than an upcast; None is that of strings.
_OTHERS = {None, *WIDER}


def run_function(block: Block, scope: Scope, tap: Tap | None) -> tuple[Value, ...]:
    """Run a function's body as :func:`pte_foundry.mil.run.run_block` does, by a plan if it can."""
    if tap is not None:
        return run_block(block, scope, tap)
    key = tuple(scope[i.name].shape for i in block.inputs)
    known, plan = key in block.plans, block.plans.pop(key, None)
    block.plans[key] = plan  # the newest
    if plan is not None:
        return run_block(block, scope, None, start=_follow(plan, scope))
    if known:
        record = Record(block, scope)
        results = run_block(block, scope, None, observe=record.add)
        block.plans[key] = _Planner(record).plan()
        return results
    if len(block.plans) > _PLANS:
        del block.plans[next(iter(block.plans))]
    return run_block(block, scope, None)


class _Result(NamedTuple):
    """What is checked of a result. Without a key it is not kept."""

    key: str | None
    dtype: torch.dtype
    shape: torch.Size


class _Step(NamedTuple):
    """One instruction.

    Attributes:
        widened: values to upcast, the key of the fp32 form, and whether the value is dropped then.
        call: computes the results from the scope; None if the instruction runs as ever.
        dead: what is dropped once the results are computed.
        result: the only one, if there is one.
        shapes: of all results.
        count: bytes to count.
    """

    instruction: Instruction
    widened: tuple[tuple[str, Hashable, bool], ...]
    call: Callable[[Scope], Any] | None
    dead: tuple[Hashable, ...]
    result: _Result | None
    shapes: tuple[torch.Size | None, ...]
    count: int


def _follow(plan: list[_Step], scope: Scope) -> int:
    """Run instructions as long as results have the recorded shapes; return how many have run."""
    meter = limits.current() or limits.Meter(limits.Limits())
    half, single = torch.float16, torch.float32
    instruction = call = None
    try:
        for number, step in enumerate(plan, start=1):
            instruction, widened, call, dead, result, shapes, count = step
            if call is None:
                if not _published(instruction, execute(instruction, scope), scope, shapes):
                    return number
                continue
            meter.step()
            for source, key, last in widened:
                scope[key] = (scope.pop(source) if last else scope[source]).float()
            value = call(scope)
            for key in dead:
                del scope[key]
            if count:
                meter.count(count)
            if result is not None and value.__class__ is Tensor:
                key, dtype, shape = result
                if value.dtype is not dtype and dtype is half and value.dtype is single:
                    value = value.half()
                if value.dtype is dtype and value.shape == shape:
                    if key is not None:
                        scope[key] = value
                    value = None  # or it would live until the next result
                    continue
            values, value = check(instruction, value), None
            if not _published(instruction, values, scope, shapes):
                return number
            values = None
    except Exception as error:
        if call is None:
            raise
        raise_named(instruction, error)
    return len(plan)


def _published(
    instruction: Instruction,
    values: tuple[Value, ...],
    scope: Scope,
    shapes: tuple[torch.Size | None, ...],
) -> bool:
    """Add results to the scope; return whether they have the recorded shapes."""
    publish(instruction, values, scope)
    return all(
        (value.shape if isinstance(value, Tensor) else None) == shape
        for value, shape in zip(values, shapes, strict=True)
    )


class _Planner:
    """Makes the plan of a recorded run."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._instructions = record.block.instructions
        self._uncopied = record.uncopied()
        # By value: its fp32 form's key, and the first and last of the instructions that share it.
        self._forms: dict[str, tuple[Hashable, int, int]] = {}
        for number, instruction in enumerate(self._instructions):
            for name in self._upcast(instruction) if self._is_plain(instruction) else ():
                if record.types[name][1].numel() * torch.float32.itemsize <= _SHARED:
                    form, first, _ = self._forms.get(name, (object(), number, number))
                    self._forms[name] = form, first, number

    def plan(self) -> list[_Step]:
        """Return the steps of all instructions."""
        steps, count = [], 0
        for number in range(len(self._instructions)):
            step = self._step(number)
            count += step.count
            counted = count if count >= _COUNTED else 0
            steps.append(step._replace(count=counted))
            count -= counted
        return steps

    def _is_plain(self, instruction: Instruction) -> bool:
        """Whether all that an instruction needs follows from the shapes of its arguments."""
        names, outputs = names_of(instruction), instruction.operation.outputs
        return (
            not instruction.blocks
            and not (instruction.kernel.sized and names)
            and all(variable.parameter.tensors for variable in instruction.variables)
            and all(self._record.types.get(name, (None,))[0] not in _OTHERS for name in names)
            and all(
                isinstance(output.type, TensorType) and output.type.dtype.torch not in _OTHERS
                for output in outputs
            )
        )

    def _upcast(self, instruction: Instruction) -> list[str]:
        """The fp16 values that an instruction takes in fp32."""
        names = names_of(instruction, upcast=True)
        return [n for n in dict.fromkeys(names) if self._record.types[n][0] is torch.float16]

    def _step(self, number: int) -> _Step:
        instruction, shapes = self._instructions[number], self._record.shapes[number]
        if not self._is_plain(instruction):
            return _Step(instruction, (), None, (), None, shapes, 0)
        outputs = instruction.operation.outputs
        results = [
            _Result(
                None if output.name in instruction.last_uses else output.name,
                output.type.dtype.torch,
                shape,
            )
            for output, shape in zip(outputs, shapes, strict=True)
        ]
        dead = [n for n in instruction.last_uses if all(n != output.name for output in outputs)]
        forms, widened = {}, []
        for name in self._upcast(instruction):
            form, first, last = self._forms.get(name, (object(), number, number))
            forms[name] = form
            if first == number:
                drop = name in dead and name not in names_of(instruction, upcast=False)
                if drop:
                    dead.remove(name)
                widened.append((name, form, drop))
            if last == number:
                dead.append(form)
        return _Step(
            instruction,
            tuple(widened),
            _call(instruction, forms) if number not in self._uncopied else _uncopied(instruction),
            tuple(dead),
            results[0] if len(results) == 1 else None,
            shapes,
            sum(result.shape.numel() * result.dtype.itemsize for result in results),
        )


def _uncopied(instruction: Instruction) -> Callable[[Scope], Tensor]:
    state = str(state_of(instruction))

    def read(scope: Scope) -> Tensor:
        held = scope[state]
        return held if held.is_contiguous() else held.clone()

    return read


def _call(instruction: Instruction, forms: dict[str, Hashable]) -> Callable[[Scope], Any]:
    """A call of an operation's function: constants are bound, values come from the scope.

    Its source is written out as ``run(x=scope[a0], y=a1)``: three times as fast as ``run(**...)``.
    The names in it are those of the function's parameters.
    """
    bound: list[Any] = []

    def place(value: Any) -> str:
        bound.append(value)
        return f"a{len(bound) - 1}"

    parts = [f"{key}={place(value)}" for key, value in instruction.constants.items()]
    for key, parameter, operands in instruction.variables:
        texts = []
        for operand in operands:
            if isinstance(operand, Name):
                source = forms.get(operand, str(operand)) if parameter.upcast else str(operand)
                texts.append(f"scope[{place(source)}]")
            else:
                texts.append(place(parameter.convert((operand,))[0]))
        parts.append(f"{key}=({', '.join(texts)},)" if parameter.variadic else f"{key}={texts[0]}")
    return _written(", ".join(parts), len(bound))(instruction.kernel.run, *bound)


@cache
def _written(arguments: str, count: int) -> Callable[..., Callable[[Scope], Any]]:
    bound = "".join(f", a{number}" for number in range(count))
    return eval(f"lambda run{bound}: lambda scope: run({arguments})", {})
