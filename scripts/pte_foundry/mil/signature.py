"""Signature of a function: its inputs, outputs and states, and the checks of a call's arguments."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pte_foundry import limits
from pte_foundry.errors import InputError, ProgramError
from pte_foundry.formats.mil_dtypes import MAX_ELEMENTS
from pte_foundry.mil.instructions import NamedType
from pte_foundry.mil.types import StateType, TensorType
from pte_foundry.upstream.coremltools_protobuf import FeatureTypes_pb2, Model_pb2

State = dict[str, np.ndarray]
"""States by name. A run updates the arrays in place."""


@dataclass(frozen=True)
class Input(NamedType):
    """An input, with the shapes that it accepts where its type leaves sizes open.

    Attributes:
        shapes: the only shapes allowed; empty for no restriction. Those of several inputs belong
            together by their position.
        ranges: (smallest, largest) of each size, None for no limit; empty for no restriction.
        default: the value if the input is left out; None if it is required.
    """

    type: TensorType
    shapes: tuple[tuple[int, ...], ...] = ()
    ranges: tuple[tuple[int, int | None], ...] = ()
    default: Tensor | None = None

    def allows(self, shape: tuple[int, ...]) -> bool:
        """Whether an array of this shape is accepted."""
        if not self.type.accepts_shape(shape) or (self.shapes and shape not in self.shapes):
            return False
        return not self.ranges or (
            len(shape) == len(self.ranges)
            and all(
                low <= size and (high is None or size <= high)
                for size, (low, high) in zip(shape, self.ranges, strict=True)
            )
        )

    def describe(self) -> str:
        """The type and the shapes, for messages: ``fp32[1..8, 4]``."""
        if self.shapes:
            return f"{self.type} in the shapes {', '.join(str(list(s)) for s in self.shapes)}"
        if self.ranges:
            sizes = (str(a) if a == b else f"{a}..{'' if b is None else b}" for a, b in self.ranges)
            return f"{self.type.dtype.name}[{', '.join(sizes)}]"
        return str(self.type)


@dataclass(frozen=True)
class Signature:
    """Inputs, outputs and states of a function, in declared order.

    Attributes:
        opset: its name in the program, for example ``CoreML7``.
    """

    opset: str
    inputs: tuple[Input, ...]
    outputs: tuple[NamedType, ...]
    states: tuple[NamedType, ...]

    def accept(self, inputs: Mapping[str, np.ndarray], state: State | None) -> dict[str, Tensor]:
        """Check the arguments of a run and convert them to tensors by name.

        Inputs are copied; states share their memory with the caller's arrays.

        Raises:
            InputError: inputs or states are missing or unknown, or of a wrong shape or dtype; the
                message lists all of them.
        """
        known = ", ".join(i.name for i in self.inputs) or "none"
        findings = [
            f"unknown input {name!r}; the program takes {known}"
            for name in inputs
            if name not in self._names()
        ]
        scope: dict[str, Tensor] = {}
        for wanted in self.inputs:
            if wanted.name not in inputs and wanted.default is not None:
                scope[wanted.name] = wanted.default
                continue
            if wanted.name not in inputs:
                findings.append(f"missing input {wanted.name!r}, {wanted.describe()}")
                continue
            array = np.asarray(inputs[wanted.name])
            if array.dtype != numpy_dtype(wanted.type) or not wanted.allows(array.shape):
                findings.append(
                    f"input {wanted.name!r} is {array.dtype}{list(array.shape)}, "
                    f"expected {wanted.describe()}"
                )
                continue
            scope[wanted.name] = torch.from_numpy(array.copy(order="C"))
        for wanted in self.states:
            finding = self._state_finding(wanted, state)
            if finding:
                findings.append(finding)
            else:
                scope[wanted.name] = torch.from_numpy(state[wanted.name])
        if findings or (findings := self._mixed_shapes(scope)):
            raise InputError("; ".join(findings))
        return scope

    def make_state(self) -> State:
        """Return new states, all zeros, as Core ML makes them."""
        state = {}
        for declared in self.states:
            shape, dtype = declared.type.tensor.shape, numpy_dtype(declared.type.tensor)
            limits.allocate(math.prod(shape) * dtype.itemsize)
            state[declared.name] = np.zeros(shape, dtype)
        return state

    def _mixed_shapes(self, scope: Mapping[str, Tensor]) -> list[str]:
        """Findings on enumerated shapes of several inputs that do not belong together.

        Core ML accepts the n-th shapes of all inputs together and no other combination
        (apple/coremltools#2271). A list may repeat a shape: from iOS18 on coremltools keeps the
        repetitions (``test_api_examples.py``, ``TestMultipleEnumeratedShapes``).
        """
        enumerated = [i for i in self.inputs if i.shapes]
        given = tuple(tuple(scope[i.name].shape) for i in enumerated)
        allowed = list(zip(*(i.shapes for i in enumerated), strict=False))
        if len(enumerated) < 2 or given in allowed:
            return []
        names = ", ".join(repr(i.name) for i in enumerated)
        listed = ", or ".join(_joined(shapes) for shapes in allowed)
        return [
            f"the enumerated shapes of the inputs {names} belong together by their position: "
            f"found {_joined(given)}, expected {listed}"
        ]

    def _names(self) -> set[str]:
        return {i.name for i in self.inputs}

    @staticmethod
    def _state_finding(wanted: NamedType, state: State | None) -> str | None:
        if state is None or wanted.name not in state:
            return f"missing state {wanted.name!r}: pass state=program.make_state()"
        array, declared = state[wanted.name], wanted.type.tensor
        if array.dtype != numpy_dtype(declared) or not declared.accepts_shape(array.shape):
            return f"state {wanted.name!r} is {array.dtype}{list(array.shape)}, expected {declared}"
        return None


def _joined(shapes: tuple[tuple[int, ...], ...]) -> str:
    return " with ".join(str(list(shape)) for shape in shapes)


def numpy_dtype(declared: TensorType) -> np.dtype:
    """Return the numpy dtype of an input, output or state.

    Raises:
        ProgramError: neither numpy nor the interface of Core ML has such a dtype.
    """
    if declared.dtype.torch is None or declared.dtype.name in ("bf16", "fp8e4m3fn", "fp8e5m2"):
        raise ProgramError(f"{declared} cannot be an input, output or state")
    return torch.empty(0, dtype=declared.dtype.torch).numpy().dtype


def read_inputs(
    names: tuple[NamedType, ...], description: list[Model_pb2.FeatureDescription]
) -> tuple[tuple[Input, ...], tuple[NamedType, ...]]:
    """Split a function's inputs into inputs and states, and read the shapes and defaults.

    Args:
        names: declared inputs and states.
        description: from :func:`descriptions`.

    Raises:
        ProgramError: an input is of a type that a caller cannot provide, or contradictory.
    """
    features = {f.name: f.type for f in description}
    inputs, states = [], []
    for declared in names:
        if isinstance(declared.type, StateType):
            if None in (declared.type.tensor.shape or (None,)):
                raise ProgramError(f"the state {declared.name!r} has no fixed shape")
            states.append(declared)
        elif isinstance(declared.type, TensorType):
            feature = features.get(declared.name, FeatureTypes_pb2.FeatureType())
            numpy_dtype(declared.type)
            inputs.append(_with_default(_flexible(declared, feature.multiArrayType), feature))
        else:
            raise ProgramError(
                f"the input {declared.name!r} is a {declared.type}, expected a tensor or a state"
            )
    for state in states:
        numpy_dtype(state.type.tensor)
    return tuple(inputs), tuple(states)


def descriptions(model: Model_pb2.Model, function: str) -> list[Model_pb2.FeatureDescription]:
    """Return a model's description of a function's inputs: flexible shapes and defaults."""
    # Multifunction models (iOS18) describe every function, the others only the one they have.
    for description in model.description.functions:
        if description.name == function:
            return list(description.input)
    return list(model.description.input)


def _flexible(declared: NamedType, array: FeatureTypes_pb2.ArrayFeatureType) -> Input:
    kind = array.WhichOneof("ShapeFlexibility")
    if kind == "enumeratedShapes":
        shapes = tuple(tuple(s.shape) for s in array.enumeratedShapes.shapes)
        return Input(declared.name, declared.type, shapes=shapes)
    if kind == "shapeRange":
        # An upper bound of -1 means no limit (coremltools, FeatureTypes.proto, SizeRange).
        ranges = tuple(
            (r.lowerBound, None if r.upperBound < 0 else r.upperBound)
            for r in array.shapeRange.sizeRanges
        )
        return Input(declared.name, declared.type, ranges=ranges)
    return Input(declared.name, declared.type)


def _with_default(wanted: Input, feature: FeatureTypes_pb2.FeatureType) -> Input:
    """Add the default of an optional input: its shape filled with one value, 0 if none is set.

    coremltools 9.0 writes no defaults into an ML program, but an edited specification can have them
    (FeatureTypes.proto, ``isOptional`` and ``defaultOptionalValue``).
    """
    if not feature.isOptional:
        return wanted
    array = feature.multiArrayType
    kind, shape = array.WhichOneof("defaultOptionalValue"), tuple(array.shape)
    if not wanted.allows(shape) or math.prod(shape) > MAX_ELEMENTS:
        raise ProgramError(
            f"the optional input {wanted.name!r} has the default shape {list(shape)}, "
            f"expected {wanted.describe()}"
        )
    try:
        value = torch.tensor(getattr(array, kind) if kind else 0, dtype=wanted.type.dtype.torch)
    except (RuntimeError, ValueError, OverflowError) as error:
        raise ProgramError(f"the default of the input {wanted.name!r}: {error}") from error
    return replace(wanted, default=value.expand(shape))
