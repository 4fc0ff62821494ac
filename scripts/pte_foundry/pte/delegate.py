"""A delegate of a program: its contents, and the execution of its Core ML model."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pte_foundry.errors import InputError, ProgramError
from pte_foundry.formats import pte_schema
from pte_foundry.formats.coreml_delegate import PACKAGE, CoreMLModel, resolve
from pte_foundry.formats.delegate_blob import write_files
from pte_foundry.formats.pte_file import PteFile
from pte_foundry.limits import Limits
from pte_foundry.mil import Program
from pte_foundry.mil.types import TensorType
from pte_foundry.pte.memory import Slot


class Delegate:
    """One delegate of one method.

    Attributes:
        method: name of the method that calls it.
        index: its number within the method.
        backend_id: for example ``CoreMLBackend``.
        compile_specs: the backend's options at lowering, undecoded, by key.
        observe: called with the inputs of each call, by name, if it is set.
        symbols: the debug info of its function in a model that methods share, which has none.
    """

    observe: Callable[[Mapping[str, np.ndarray]], None] | None = None
    symbols: Mapping[str, Any] | None = None

    def __init__(
        self,
        file: PteFile,
        method: str,
        index: int,
        delegate: pte_schema.BackendDelegate,
        limits: Limits,
        shared: dict[str, Program],
    ) -> None:
        self._file = file
        self._shared = shared
        self._limits = limits
        self._delegate = delegate
        self._state: dict[str, np.ndarray] | None = None
        self.method = method
        self.index = index
        self.backend_id = delegate.id
        self.compile_specs = {spec.key: bytes(spec.value) for spec in delegate.compile_specs}

    @cached_property
    def _resolved(self) -> tuple[CoreMLModel, str]:
        return resolve(self._file, self._delegate)

    @property
    def model(self) -> CoreMLModel:
        """Contents of a Core ML delegate. Raises ProgramError for other backends."""
        return self._resolved[0]

    @property
    def function(self) -> str:
        """Name of the model's function that is called: "main" unless methods share a model."""
        return self._resolved[1]

    @property
    def debug_info(self) -> Mapping[str, Any]:
        """Debug handles by MIL value: those of the model, or else ``symbols``."""
        return self.model.debug_info or self.symbols or {}

    @property
    def files(self) -> Mapping[str, memoryview]:
        """Contents of the files in the delegate's blob, by path."""
        return self.model.files

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        folder = tempfile.TemporaryDirectory(prefix="pte-")
        write_files(self.files, Path(folder.name))
        return folder

    @property
    def mlpackage(self) -> Path:
        """Path of the model as an ``.mlpackage`` folder; deleted with this object."""
        return Path(self._folder.name) / PACKAGE

    @cached_property
    def program(self) -> Program:
        """The model, loaded at the first use; once for all methods that share it.

        Raises ProgramError if it is malformed, compiled, or has unsupported operations.
        """
        model, key = self.model, self.model.shared_key
        program = None if key is None else self._shared.get(key)
        if program is None:
            program = Program.from_parts(bytes(model.model), model.weights, self._limits)
        if key is not None:
            self._shared[key] = program
        if self.function not in program.functions:
            raise ProgramError(f"the Core ML model has no function {self.function!r}")
        return program

    def reset(self) -> None:
        """Reset the model's states to zero."""
        self._state = None

    def call(
        self,
        arguments: list[tuple[Slot, torch.Tensor | None]],
        tap: Callable[[Delegate, str, torch.Tensor], None] | None,
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Run the model. Its states persist until :meth:`reset`.

        Args:
            arguments: slot and current value of each argument of the call: the inputs, then the
                outputs, in the order of ``metadata.json``.
            tap: called with this delegate, the name and the tensor of every computed value.

        Yields the position among the arguments, and the value, of each output.

        Raises ProgramError if the call or an operation contradicts the model's declarations.
        """
        inputs, outputs = self.model.names(self.function)
        if len(arguments) != len(inputs) + len(outputs):
            raise ProgramError(
                f"a call of a Core ML model with {len(inputs)} inputs and {len(outputs)} outputs "
                f"has {len(arguments)} arguments"
            )
        signature = {i.name: i.type for i in self.program.functions[self.function].inputs}
        feed = {}
        for name, (_, value) in zip(inputs, arguments, strict=False):
            if name not in signature or value is None:
                raise ProgramError(
                    f"input {name!r} of a Core ML model is unknown to it, or has no value"
                )
            feed[name] = _converted(value, signature[name])
        if self.observe is not None:
            self.observe(feed)
        if self._state is None:
            self._state = self.program.make_state(self.function)
        try:
            results = self.program.run(
                feed,
                function=self.function,
                state=self._state,
                tap=None if tap is None else lambda name, value: tap(self, name, value),
            )
        except InputError as error:  # the program's call is wrong, not the user's
            raise ProgramError(f"a call does not match its Core ML model: {error}") from error
        for position, name in enumerate(outputs, start=len(inputs)):
            if name not in results:
                raise ProgramError(f"a Core ML model has no output {name!r}")
            slot, value = arguments[position][0], torch.from_numpy(results[name])
            # Core ML has no scalars at its interface; a scalar has the shape [1] there.
            scalar = not slot.declared.sizes and value.numel() == 1
            yield position, value.reshape(()) if scalar else value


def _converted(value: torch.Tensor, declared: TensorType) -> np.ndarray:
    """An argument in Core ML's dtype and shape: it has no int64, float64 or scalars."""
    converted = value.to(declared.dtype.torch).contiguous()
    scalar = declared.shape == (1,) and not value.dim()
    return (converted.reshape(1) if scalar else converted).numpy()
