"""A delegate of a program: what it carries, and for Core ML, how it is run."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pte_foundry.errors import InputError, ProgramError
from pte_foundry.formats import coreml, schema
from pte_foundry.formats.delegate_blob import write_files
from pte_foundry.formats.read import PteFile

if TYPE_CHECKING:
    import numpy as np
    import torch

    from pte_foundry.mil import Program
    from pte_foundry.pte.memory import Slot


class Delegate:
    """One delegate of one method.

    Attributes:
        method: name of the method that it belongs to.
        index: its number within the method.
        backend_id: for example ``CoreMLBackend``.
        compile_specs: what the backend was told when the program was lowered.
    """

    def __init__(
        self, file: PteFile, method: str, index: int, delegate: schema.BackendDelegate
    ) -> None:
        self._file = file
        self._delegate = delegate
        self._state: dict[str, np.ndarray] | None = None
        self.method = method
        self.index = index
        self.backend_id = delegate.id
        self.compile_specs = {spec.key: bytes(spec.value) for spec in delegate.compile_specs}

    @cached_property
    def _resolved(self) -> tuple[coreml.CoreMLModel, str]:
        return coreml.resolve(self._file, self._delegate)

    @property
    def model(self) -> coreml.CoreMLModel:
        """What a Core ML delegate carries. Raises ProgramError for other backends."""
        return self._resolved[0]

    @property
    def function(self) -> str:
        """The function of the model that is called: "main" unless methods share a model."""
        return self._resolved[1]

    @property
    def files(self) -> Mapping[str, memoryview]:
        """Files of the delegate's blob, by path."""
        return self.model.files

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        folder = tempfile.TemporaryDirectory(prefix="pte-")
        write_files(self.files, Path(folder.name))
        return folder

    @property
    def mlpackage(self) -> Path:
        """The model as an ``.mlpackage`` folder; it lives as long as this object."""
        return Path(self._folder.name) / coreml.PACKAGE

    @cached_property
    def program(self) -> Program:
        """The model, ready to run."""
        from pte_foundry.mil import Program

        program = Program.from_parts(bytes(self.model.model), self.model.weights)
        if self.function not in program.functions:
            raise ProgramError(f"the Core ML model has no function {self.function!r}")
        return program

    def reset(self) -> None:
        """Put the model's states back to zero."""
        self._state = None

    def call(
        self,
        arguments: list[tuple[Slot, torch.Tensor | None]],
        tap: Callable[[Delegate, str, torch.Tensor], None] | None,
    ) -> Iterator[tuple[int, torch.Tensor]]:
        """Run the model.

        Args:
            arguments: the call's arguments, which are the inputs and then the outputs, in the order
                of ``metadata.json``: where each is kept, and what it holds.

        Yields: the position among the arguments, and the value, of each output.
        """
        import torch

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
                raise ProgramError(f"input {name!r} of a Core ML model has no value or no place")
            feed[name] = _fitted(value, signature[name])
        if self._state is None:
            self._state = self.program.make_state(self.function)
        try:
            results = self.program.run(
                feed,
                function=self.function,
                state=self._state,
                tap=None if tap is None else lambda name, value: tap(self, name, value),
            )
        except InputError as error:  # the program's own call is wrong, not the user's
            raise ProgramError(f"a call does not fit its Core ML model: {error}") from error
        for position, name in enumerate(outputs, start=len(inputs)):
            if name not in results:
                raise ProgramError(f"a Core ML model gives no output {name!r}")
            slot, value = arguments[position][0], torch.from_numpy(results.pop(name))
            # Core ML has no scalars at its interface: they are one element there.
            scalar = not slot.declared.sizes and value.numel() == 1
            yield position, value.reshape(()) if scalar else value


def _fitted(value: torch.Tensor, declared: Any) -> np.ndarray:
    """An argument as Core ML takes it: it knows no int64, float64 or scalars."""
    fitted = value.to(declared.dtype.torch).contiguous()
    scalar = declared.shape == (1,) and not value.dim()
    return (fitted.reshape(1) if scalar else fitted).numpy()
