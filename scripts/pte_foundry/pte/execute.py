"""Execution of ExecuTorch programs on any machine, from the exact bytes that ship.

A method is a list of instructions over a table of values (executorch 1.4, ``runtime/executor/
method.cpp``). torch computes kernel calls, :mod:`pte_foundry.mil` computes Core ML delegate calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from pte_foundry.errors import InputError, LimitError, ProgramError
from pte_foundry.formats import pte_schema
from pte_foundry.formats.constant_methods import constants
from pte_foundry.formats.coreml_delegate import BACKEND
from pte_foundry.formats.pte_file import PteFile, read_pte
from pte_foundry.limits import Limits, current
from pte_foundry.mil import Program
from pte_foundry.mil.limited import limited
from pte_foundry.pte.delegate import Delegate
from pte_foundry.pte.kernels import Kernel, find_kernel
from pte_foundry.pte.memory import Memory, Slot
from pte_foundry.upstream.executorch_kernels import framework

Tap = Callable[[Delegate, str, torch.Tensor], None]
"""Called with the delegate, name and tensor of a value inside of a Core ML delegate."""


class Pte:
    """An ExecuTorch program. Make one with :meth:`load`.

    Attributes:
        delegates: all delegates, by method, in the order of the program.
    """

    def __init__(self, file: PteFile, limits: Limits) -> None:
        self._file = file
        self._limits = limits
        self._methods: dict[str, _Method] = {}
        shared: dict[str, Program] = {}
        self.delegates = [
            Delegate(file, plan.name, number, delegate, limits, shared)
            for plan in file.program.execution_plan
            for number, delegate in enumerate(plan.delegates)
        ]

    @classmethod
    def load(cls, source: str | Path | bytes, limits: Limits | None = None) -> Pte:
        """Read a program from a path or from its bytes.

        Delegates and kernels are resolved at the first run of their method. A path is mapped into
        memory: the file must not change while the program is in use.

        Args:
            source: the path or the bytes.
            limits: what each run may take, its delegates included.

        Raises ProgramError if it is malformed; OSError if it cannot be read.
        """
        path = Path(source) if isinstance(source, str) else source
        return cls(read_pte(path), limits or Limits())

    @property
    def methods(self) -> list[str]:
        """Names of the methods."""
        return list(self._file.plans)

    @property
    def constants(self) -> dict[str, Any]:
        """Values of the methods that only return constants; a list if one returns several."""
        return constants(self._file.program)

    def run(
        self, inputs: Sequence[Any], method: str = "forward", tap: Tap | None = None
    ) -> tuple[Any, ...]:
        """Execute a method. Buffers keep their state for the next run.

        Args:
            inputs: in order: tensors of the declared dtypes and shapes, and the same numbers as at
                export (they are constants of the program).
            method: the method's name.
            tap: called with the delegate, name and tensor of every value that a Core ML delegate
                computes, as it is computed.

        Returns:
            The outputs in order, in memory of their own.

        Raises:
            InputError: the method does not exist, or an input has another dtype, shape or value.
            ProgramError: the program is malformed, or uses something unsupported.
            LimitError: the run takes more than the program's limits allow.
        """
        with limited(self._limits):
            return self._method(method).run(inputs, tap)

    def add_debug_info(self, symbols: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
        """Give the delegates of methods that share a model the debug info of their functions.

        Args:
            symbols: by method, that of its delegates, as the ``lower`` step writes it.
        """
        for delegate in self.delegates:
            known = symbols.get(delegate.method, ())
            if delegate.index < len(known):
                delegate.symbols = known[delegate.index]

    def delegates_of(self, method: str) -> list[Delegate]:
        """Return the delegates of a method, in order."""
        return [delegate for delegate in self.delegates if delegate.method == method]

    def reset(self) -> None:
        """Reset the state of every method to its state after load, delegates included."""
        for method in self._methods.values():
            method.reset()

    def _method(self, name: str) -> _Method:
        if name not in self._file.plans:
            known = ", ".join(self.methods) or "none"
            raise InputError(f"no method {name!r}; the program has {known}")
        if name not in self._methods:
            try:
                with current().watch:
                    made = _Method(self._file, self._file.plans[name], self.delegates_of(name))
                self._methods[name] = made
            except (RuntimeError, OverflowError) as error:  # torch's, of sizes that it cannot make
                raise ProgramError(f"method {name!r} has an impossible value: {error}") from error
        return self._methods[name]


class _Method:
    def __init__(
        self, file: PteFile, plan: pte_schema.ExecutionPlan, delegates: list[Delegate]
    ) -> None:
        self._plan = plan
        self._delegates = delegates
        self._kernels = _find_kernels(plan, delegates)
        self._memory = Memory(file, plan)
        if len(plan.chains) > 1:
            raise ProgramError(f"method {plan.name!r} has several chains, expected one")
        self._instructions = [
            instruction.instr_args for chain in plan.chains for instruction in chain.instructions
        ]

    def reset(self) -> None:
        self._memory.reset()
        for delegate in self._delegates:
            delegate.reset()

    def run(self, inputs: Sequence[Any], tap: Tap | None) -> tuple[Any, ...]:
        memory, plan = self._memory, self._plan
        memory.begin()
        self._take(inputs)
        meter, position = current(), 0
        while position < len(self._instructions):
            call = self._instructions[position]
            position += 1
            try:
                meter.step()
                match call:
                    case pte_schema.KernelCall():
                        with meter.watch:
                            self._kernels[call.op_index](memory, call.args)
                    case pte_schema.DelegateCall():
                        self._delegate(call, tap)
                    case pte_schema.MoveCall():
                        memory.values[call.move_to] = memory.values[call.move_from]
                    case pte_schema.JumpFalseCall():
                        if not bool(memory.get(call.cond_value_index)):
                            position = call.destination_instruction
                    case pte_schema.FreeCall():
                        memory.values[call.value_index] = None
            except Exception as error:
                raise self._failed(call, position - 1, error) from error
        return tuple(self._output(number, index) for number, index in enumerate(plan.outputs))

    def _failed(self, call: object, position: int, error: Exception) -> ProgramError:
        """The error of an instruction, with its position and operator."""
        if isinstance(call, pte_schema.DelegateCall) and isinstance(error, ProgramError):
            return error  # it names the operation
        what = f"instruction {position} of {self._plan.name!r}"
        if isinstance(call, pte_schema.KernelCall):
            what += f", {_name(self._plan.operators[call.op_index])}"
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        return (LimitError if isinstance(error, LimitError) else ProgramError)(f"{what}: {why}")

    def _output(self, number: int, index: int) -> Any:
        value, declared = self._memory.get(index), self._plan.values[index].val
        wanted = (torch.Tensor, bool, int, float, str)
        parts = value if isinstance(value, list) else [value]
        if value is None and isinstance(declared, pte_schema.Null | None):
            return None
        if not all(isinstance(part, wanted) for part in parts):
            raise ProgramError(f"output {number} of {self._plan.name!r} has no value")
        return [_own(part) for part in value] if isinstance(value, list) else _own(value)

    def _delegate(self, call: pte_schema.DelegateCall, tap: Tap | None) -> None:
        memory, delegate = self._memory, self._delegates[call.delegate_index]
        arguments = [(memory.slot(index), memory.get(index)) for index in call.args]
        for index, value in delegate.call(arguments, tap):
            memory.set(call.args[index], value)

    def _take(self, inputs: Sequence[Any]) -> None:
        declared = self._plan.inputs
        if len(inputs) != len(declared):
            raise InputError(
                f"method {self._plan.name!r} takes {len(declared)} inputs, found {len(inputs)}"
            )
        findings = []
        for number, (index, given) in enumerate(zip(declared, inputs, strict=True)):
            slot = self._memory.slots.get(index)
            problem = (
                _not_number(self._memory.get(index), given)
                if slot is None
                else _not_tensor(slot, given)
            )
            if problem:
                findings.append(f"input {number}: {problem}")
        if findings:
            raise InputError("; ".join(findings))
        for index, given in zip(declared, inputs, strict=True):
            self._memory.set(index, _own(given))


def _find_kernels(plan: pte_schema.ExecutionPlan, delegates: list[Delegate]) -> list[Kernel]:
    kernels = [find_kernel(operator) for operator in plan.operators]
    missing = [
        f"operator {_name(operator)}{_why(_name(operator))}"
        for operator, kernel in zip(plan.operators, kernels, strict=True)
        if kernel is None
    ]
    foreign = {d.backend_id for d in delegates if d.backend_id != BACKEND}
    missing += [f"delegate {backend}" for backend in sorted(foreign)]
    if missing:
        raise ProgramError(f"method {plan.name!r} needs unsupported {', '.join(missing)}")
    return [kernel for kernel in kernels if kernel is not None]


def _why(kernel: str) -> str:
    return "" if framework(kernel) else ", which ExecuTorch's runtime lacks"


def _name(operator: pte_schema.Operator) -> str:
    return f"{operator.name}.{operator.overload}" if operator.overload else operator.name


def _not_tensor(slot: Slot, given: object) -> str | None:
    if not isinstance(given, torch.Tensor):
        return f"found {type(given).__name__}, expected {slot.describe()}"
    if given.dtype != slot.dtype or not slot.allows(tuple(given.shape)):
        name = str(given.dtype).removeprefix("torch.")
        return f"found {name} of shape {tuple(given.shape)}, expected {slot.describe()}"
    return None


def _not_number(exported: object, given: object) -> str | None:
    # Numbers are constants of the exported program: a different one would be ignored.
    if type(given) is not type(exported) or given != exported:
        return f"found {given!r}, expected {exported!r} as at export"
    return None


def _own(value: Any) -> Any:
    return value.detach().clone() if isinstance(value, torch.Tensor) else value
