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
- Linears of one value are computed one after another.
- Operations whose results follow from more than the shapes of their arguments (those with nested
  blocks, or that take numbers) run as ever.

A run with a tap follows no plan, since a tap may keep what it is given.
"""

import torch
from torch import Tensor

from pte_foundry import limits
from pte_foundry.mil.instructions import Block, Instruction, Scope
from pte_foundry.mil.planner import Plan, Step, plan_of
from pte_foundry.mil.record import Form, Record
from pte_foundry.mil.run import Tap, check, execute, publish, raise_named, run_block
from pte_foundry.mil.types import Value

# Shapes of inputs that a function remembers: those used last.
_PLANS = 16


def run_function(block: Block, scope: Scope, tap: Tap | None) -> tuple[Value, ...]:
    """Run a function's body as :func:`pte_foundry.mil.run.run_block` does, by a plan if it can."""
    if tap is not None:
        return run_block(block, scope, tap)
    key = tuple(scope[i.name].shape for i in block.inputs)
    known, plan = key in block.plans, block.plans.pop(key, None)
    block.plans[key] = plan  # the newest
    if plan is not None:
        return _follow(plan, scope)
    if known:
        record = Record(block, scope)
        results = run_block(block, scope, None, observe=record.add)
        block.plans[key] = plan_of(record)
        return results
    if len(block.plans) > _PLANS:
        del block.plans[next(iter(block.plans))]
    return run_block(block, scope, None)


def _follow(plan: Plan, scope: Scope) -> tuple[Value, ...]:
    with torch.inference_mode():  # dispatches faster
        done = _followed(plan.steps, scope)
    return run_block(plan.block, scope, None, start=done)


def _followed(steps: list[Step], scope: Scope) -> int:
    """Run instructions as long as results have the recorded shapes; return how many have run."""
    meter = limits.current() or limits.Meter(limits.Limits())
    half, single = torch.float16, torch.float32
    instruction = call = None
    try:
        for number, step in enumerate(steps, start=1):
            instruction, widened, call, dead, result, forms, count = step
            if call is None:
                with torch.inference_mode(False):  # in it, limits would see less
                    values = execute(instruction, scope)
                if not _published(instruction, values, scope, forms):
                    return number
                values = None
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
            if not _published(instruction, values, scope, forms):
                return number
            values = None
    except Exception as error:
        if call is None:
            raise
        raise_named(instruction, error)
    return len(steps)


def _published(
    instruction: Instruction,
    values: tuple[Value, ...],
    scope: Scope,
    forms: tuple[Form | None, ...],
) -> bool:
    """Add checked results to the scope; return whether they have the recorded shapes."""
    publish(instruction, values, scope)
    return all(
        value.shape == form.shape if isinstance(value, Tensor) else form is None
        for value, form in zip(values, forms, strict=True)
    )
