"""Plans: what is the same in every run on inputs of the same shapes, found out once.

:mod:`pte_foundry.mil.run` looks at each operation as if it were new: it converts arguments, watches
what is allocated, and compares results with their declared types. For an operation of microseconds
that takes longer than the operation. So the second run on inputs of some shapes is recorded, and
later ones follow a plan. It gives the same results to the bit:

- A result has one check: is it of the declared dtype, and of the recorded shape? While all are,
  every operation gets arguments of the shapes with which it ran within the limits. Where one
  differs, :mod:`pte_foundry.mil.run` takes over behind it.
- fp16 that several operations need in fp32 is upcast once for all of them, unless it is large.
- ``read_state`` gives the state's own memory instead of a copy, if the program does not write to
  the state while that, or a view of it, is in use.
- Linears of one value are computed one after another.
- Operations that take numbers, from which the sizes of their results follow, run as ever.

A run with a tap follows no plan, since a tap may keep what it is given; nor does a function with
nested blocks.
"""

import traceback

import torch

from pte_foundry import limits
from pte_foundry.mil.instructions import Block, Scope
from pte_foundry.mil.planner import FILE, Plan, plan_of
from pte_foundry.mil.record import Record
from pte_foundry.mil.run import Tap, check, publish, raise_named, run_block
from pte_foundry.mil.types import Value

# Shapes of inputs that a function remembers: those used last.
_PLANS = 16


def run_function(block: Block, scope: Scope, tap: Tap | None) -> tuple[Value, ...]:
    """Run a function's body as :func:`pte_foundry.mil.run.run_block` does, by a plan if it can."""
    if tap is not None or any(instruction.blocks for instruction in block.instructions):
        return run_block(block, scope, tap)
    key = tuple(scope[i.name].shape for i in block.inputs)
    known, plan = key in block.plans, block.plans.pop(key, None)
    block.plans[key] = plan  # the newest
    if plan is not None:
        return _followed(plan, scope)
    if known:
        record = Record(block, scope)
        results = run_block(block, scope, None, observe=record.add)
        block.plans[key] = plan_of(record)
        return results
    if len(block.plans) > _PLANS:
        del block.plans[next(iter(block.plans))]
    return run_block(block, scope, None)


def _followed(plan: Plan, scope: Scope) -> tuple[Value, ...]:
    meter = limits.current() or limits.Meter(limits.Limits())
    try:
        with torch.inference_mode():  # dispatches faster
            number, found = plan.follow(scope, meter.take)
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        line = next(line for frame, line in frames if frame.f_code.co_filename == FILE)
        instruction = plan.lines[line]
        if instruction is None:
            raise
        raise_named(instruction, error)
    if number is None:
        return found
    instruction = plan.block.instructions[number]
    outputs = [output.name for output in instruction.operation.outputs]
    values = tuple(found.pop(plan.variables[name]) for name in outputs)
    scope.update((n, found[v]) for n, v in plan.variables.items() if v in found)
    del found
    publish(instruction, check(instruction, values), scope)
    return run_block(plan.block, scope, None, start=number + 1)
