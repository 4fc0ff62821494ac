"""Values of a method, in the memory that the program plans for them.

The plan affects results, so an executor must follow it: a view of known shape is no instruction but
a second tensor at the same address (executorch 1.5, ``_emit_view``), and a buffer keeps its state
because no other value is planned at its address.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch

from pte_foundry import limits
from pte_foundry.errors import ProgramError
from pte_foundry.formats import pte_schema
from pte_foundry.formats.pte_file import PteFile
from pte_foundry.pte.scalar_types import DTYPES

MAX_BYTES = 1 << 35
"""Limit on the bytes of a plan and of a tensor; a larger one counts as damaged."""


class Slot:
    """One tensor of a method: its declaration, and its memory if any is planned.

    Attributes:
        index: of the value.
        declared: sizes, dtype and dimension order from the file.
        dtype: torch's.
        bytes: of the declared sizes.
        memory: uint8, shape ``[bytes]``; None for a tensor without planned memory.
    """

    def __init__(self, index: int, declared: pte_schema.Tensor) -> None:
        rank = len(declared.sizes)
        if declared.scalar_type not in DTYPES:
            raise ProgramError(f"value {index} has the unknown scalar type {declared.scalar_type}")
        if sorted(declared.dim_order) != list(range(rank)) or min(declared.sizes, default=0) < 0:
            raise ProgramError(
                f"value {index} has sizes {declared.sizes} and dimension order {declared.dim_order}"
            )
        if declared.storage_offset:
            raise ProgramError(f"value {index} has a storage offset, which is not supported")
        self.index = index
        self.declared = declared
        self.dtype = DTYPES[declared.scalar_type]
        self.bytes = math.prod(declared.sizes) * self.dtype.itemsize
        if self.bytes > MAX_BYTES:
            raise ProgramError(f"value {index} of sizes {declared.sizes} exceeds {MAX_BYTES} bytes")
        self.memory: torch.Tensor | None = None

    def allows(self, shape: tuple[int, ...]) -> bool:
        """Whether the declaration allows this shape."""
        if min(shape, default=0) < 0:
            return False  # torch resizes what it writes to, to any shape without elements
        sizes, dynamism = self.declared.sizes, self.declared.shape_dynamism
        if dynamism == pte_schema.STATIC:
            return list(shape) == sizes
        if dynamism == pte_schema.DYNAMIC_BOUND:
            return len(shape) == len(sizes) and all(map(int.__le__, shape, sizes))
        return len(shape) == len(sizes)

    def describe(self) -> str:
        """The declared dtype and shape, for messages."""
        bound = " at most" if self.declared.shape_dynamism == pte_schema.DYNAMIC_BOUND else ""
        name = str(self.dtype).removeprefix("torch.")
        return f"{name} of shape{bound} {tuple(self.declared.sizes)}"

    def view(self, shape: tuple[int, ...] | None = None) -> torch.Tensor:
        """Return the memory as a tensor of this shape, in the declared dimension order."""
        shape = tuple(self.declared.sizes) if shape is None else shape
        needed = math.prod(shape) * self.dtype.itemsize
        if needed == 0:
            return torch.empty(shape, dtype=self.dtype)
        memory = torch.zeros(needed, dtype=torch.uint8) if self.memory is None else self.memory
        return memory[:needed].view(self.dtype).as_strided(shape, self._strides(shape))

    def store(self, value: torch.Tensor) -> torch.Tensor:
        """Write a value into the memory in the declared dtype; return the stored tensor.

        Raises ProgramError if the declaration does not allow its shape.
        """
        shape = tuple(value.shape)
        if not self.allows(shape):
            raise ProgramError(
                f"value {self.index} has shape {shape}, the program declares {self.describe()}"
            )
        if self.memory is None and value.dtype == self.dtype:
            return value
        stored = self.view(shape)
        if stored.data_ptr() != value.data_ptr() or stored.dtype != value.dtype:
            stored.copy_(value)
        return stored

    def _strides(self, shape: tuple[int, ...]) -> list[int]:
        strides, step = [0] * len(shape), 1
        for dimension in reversed(self.declared.dim_order):
            strides[dimension] = step
            step *= max(shape[dimension], 1)
        return strides


class Memory:
    """All values of a method; a :class:`pte_foundry.pte.kernels.Frame`.

    Buffers keep their state between runs until :meth:`reset`.

    Attributes:
        slots: of the tensors, by index.
        values: current values, by index.

    Raises ProgramError if a tensor exceeds the memory planned for it, or its data are not in the
    file.
    """

    def __init__(self, pte: PteFile, plan: pte_schema.ExecutionPlan) -> None:
        sizes = plan.non_const_buffer_sizes
        if min(sizes, default=0) < 0 or sum(sizes) > MAX_BYTES:
            raise ProgramError(f"method {plan.name!r} plans {sum(sizes)} bytes of memory")
        limits.allocate(sum(sizes))
        # np.zeros uses calloc: pages that are never written take no memory.
        self._arenas = [torch.from_numpy(np.zeros(size, np.uint8)) for size in sizes]
        self._initial: list[tuple[Slot, torch.Tensor]] = []
        self.slots: dict[int, Slot] = {}
        self._start: list[Any] = []
        for index, value in enumerate(plan.values):
            self._start.append(self._value(pte, index, value.val))
        self.values = list(self._start)
        self._initialise()

    def reset(self) -> None:
        """Reset every buffer to its initial state."""
        for arena in self._arenas:
            arena.zero_()
        self._initialise()

    def begin(self) -> None:
        """Start a run: reset all values but the contents of buffers."""
        self.values = list(self._start)

    def get(self, index: int) -> Any:
        """See ``Frame``."""
        value = self.values[index]
        if isinstance(value, pte_schema.IntList | pte_schema.TensorList):
            return [self.values[item] for item in value.items]
        if isinstance(value, pte_schema.OptionalTensorList):
            return [None if item == -1 else self.values[item] for item in value.items]
        return value

    def set(self, index: int, value: Any) -> None:
        """See ``Frame``. Raises ProgramError for a value of another type or shape."""
        held = self.values[index]
        if isinstance(held, pte_schema.TensorList):
            for item, tensor in zip(held.items, value, strict=True):
                self.set(item, tensor)
            return
        slot = self.slots.get(index)
        if (slot is None) == isinstance(value, torch.Tensor):
            raise ProgramError(f"value {index} cannot hold a {type(value).__name__}")
        self.values[index] = value if slot is None else slot.store(value)

    def alias(self, index: int, tensor: torch.Tensor) -> None:
        """See ``Frame``. Raises ProgramError for a shape that is not declared."""
        if not self.slot(index).allows(tuple(tensor.shape)):
            raise ProgramError(f"value {index} cannot be a view of shape {tuple(tensor.shape)}")
        self.values[index] = tensor

    def room(self, index: int) -> torch.Tensor | list[torch.Tensor]:
        """See ``Frame``."""
        held = self.values[index]
        if isinstance(held, pte_schema.TensorList):
            return [torch.empty(0, dtype=self.slot(item).dtype) for item in held.items]
        return torch.empty(0, dtype=self.slot(index).dtype)

    def reserve(self, index: int, sizes: list[int]) -> torch.Tensor:
        """See ``Frame``. Raises ProgramError for sizes beyond the declared ones."""
        slot, shape = self.slot(index), tuple(sizes)
        if not all(map(int.__le__, shape, slot.declared.sizes)):
            raise ProgramError(f"value {index} cannot grow to {shape}")
        self.values[index] = slot.view(shape)
        return self.values[index]

    def slot(self, index: int) -> Slot:
        """Return the slot of a tensor. Raises ProgramError for another kind of value."""
        if index not in self.slots:
            raise ProgramError(f"value {index} is not a tensor")
        return self.slots[index]

    def _initialise(self) -> None:
        for slot, state in self._initial:
            slot.memory.copy_(state)

    def _value(self, pte: PteFile, index: int, value: object) -> Any:
        match value:
            case pte_schema.Tensor():
                return self._tensor(pte, Slot(index, value))
            case pte_schema.Int():
                return value.int_val
            case pte_schema.Bool():
                return value.bool_val
            case pte_schema.Double():
                return value.double_val
            case pte_schema.String():
                return value.string_val
            case pte_schema.DoubleList() | pte_schema.BoolList():
                return value.items
            case pte_schema.Null() | None:
                return None
        return value  # lists of indices: get() resolves them

    def _tensor(self, pte: PteFile, slot: Slot) -> torch.Tensor | None:
        declared, extra = slot.declared, slot.declared.extra_tensor_info
        if extra is not None and extra.location == pte_schema.EXTERNAL:
            raise ProgramError(
                f"the data of {extra.fully_qualified_name!r} is in another file (.ptd), "
                "which is not supported; lower the program without external constants"
            )
        place, number = declared.allocation_info, declared.data_buffer_idx
        self.slots[slot.index] = slot
        if place is None:
            if number:
                slot.memory = _copied(pte.constant(number, slot.bytes))
                return slot.view()
            # An input or output in the caller's memory, or a tensor of unknown size.
            return slot.view() if slot.bytes == 0 else None
        start, size = place.memory_offset, slot.bytes
        if declared.shape_dynamism == pte_schema.DYNAMIC_UNBOUND:
            return None
        if not 1 <= place.memory_id < len(self._arenas) or start % slot.dtype.itemsize:
            raise ProgramError(f"value {slot.index} has an invalid memory id or offset")
        arena = self._arenas[place.memory_id]
        if start + size > len(arena):
            raise ProgramError(f"value {slot.index} exceeds the planned memory")
        slot.memory = arena[start : start + size]
        if number:
            segment = 0 if extra is None else extra.mutable_data_segments_idx
            self._initial.append((slot, _copied(pte.initial_state(segment, number, size))))
        return slot.view()


def _copied(data: memoryview) -> torch.Tensor:
    """A writable copy of data from the file, uint8."""
    return torch.from_numpy(np.frombuffer(data, np.uint8).copy())
