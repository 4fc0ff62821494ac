"""What a Core ML delegate carries: a model package, its metadata, and debugging information.

Written by executorch 1.4, ``backends/apple/coreml/compiler/coreml_preprocess.py``. The data of a
delegate is either a blob (:mod:`pte_foundry.formats.delegate_blob`) or, when several methods share one model, a
reference to a blob in the program's named data together with the function to call in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pte_foundry.errors import ProgramError
from pte_foundry.formats import schema
from pte_foundry.formats.delegate_blob import read_blob
from pte_foundry.formats.read import PteFile

if TYPE_CHECKING:
    from pte_foundry.upstream.coremltools_protobuf import Model_pb2

BACKEND = "CoreMLBackend"
COMPUTE_UNITS = ("all", "cpu_only", "cpu_and_gpu", "cpu_and_ne")
NAMED_PREFIX = "coreml_"
"""A shared blob's key in the named data is this and the blob's identifier."""

PACKAGE = "model.mlpackage"
MODEL = f"{PACKAGE}/Data/com.apple.CoreML/model.mlmodel"
WEIGHTS = f"{PACKAGE}/Data/com.apple.CoreML/weights/weight.bin"
MANIFEST = f"{PACKAGE}/Manifest.json"
HANDLES = f"{PACKAGE}/executorch_debug_handle_mapping.json"
METADATA = "metadata.json"
DEBUG_INFO = "debug_info.json"

MAIN = "main"
_REFERENCE_MAGIC = b"CMJR"


@dataclass(frozen=True)
class CoreMLModel:
    """An unpacked Core ML delegate blob."""

    files: Mapping[str, memoryview]

    @cached_property
    def metadata(self) -> dict[str, Any]:
        return read_json(self._file(METADATA), METADATA)

    @property
    def compiled(self) -> bool:
        """Whether Apple's compiler has already turned it into its own format (``mlmodelc``)."""
        return MODEL not in self.files

    @property
    def model(self) -> memoryview:
        """The serialised ``Model`` protobuf. Raises ProgramError for a compiled model."""
        return self._file(MODEL)

    @property
    def weights(self) -> memoryview | None:
        """``weight.bin``, if the model has one."""
        return self.files.get(WEIGHTS)

    @cached_property
    def spec(self) -> Model_pb2.Model:
        return parse_model(self.model)

    @cached_property
    def debug_info(self) -> dict[str, Any]:
        """``debug_info.json``: debug handles by MIL value. Empty for multifunction models."""
        contents = self.files.get(DEBUG_INFO)
        return {} if contents is None else read_json(contents, DEBUG_INFO)

    def names(self, function: str) -> tuple[list[str], list[str]]:
        """Names of a function's inputs and outputs, in the order of a delegate call's arguments."""
        described = self.metadata
        if "methods" in described:
            methods = described["methods"]
            described = methods.get(function) if isinstance(methods, dict) else None
        names = [described.get(k) if isinstance(described, dict) else None for k in _NAMES]
        if not all(isinstance(n, list) and all(isinstance(s, str) for s in n) for n in names):
            raise ProgramError(f"{METADATA} does not name the inputs and outputs of {function!r}")
        return names[0], names[1]

    def handles(self) -> set[int]:
        """Debug handles of the torch operators that went into the model; 0 stands for unknown."""
        symbols = self.debug_info.get("debugSymbolToHandles")
        lists = symbols.values() if isinstance(symbols, dict) else ()
        return {h for handles in lists if isinstance(handles, list) for h in handles if _handle(h)}

    def _file(self, path: str) -> memoryview:
        if path not in self.files:
            held = ", ".join(self.files) or "nothing"
            raise ProgramError(f"a Core ML blob has no {path}; it holds {held}")
        return self.files[path]


_NAMES = ("inputNames", "outputNames")


def _handle(value: object) -> bool:
    return type(value) is int and value > 0


@dataclass(frozen=True)
class Reference:
    """A delegate's data that points to a blob shared by several methods."""

    key: str
    function: str

    def to_bytes(self) -> bytes:
        fields = {"version": 1, "key": self.key, "functionName": self.function}
        return _REFERENCE_MAGIC + write_json(fields)


def read_reference(data: memoryview) -> Reference | None:
    """The reference that a delegate's data is, or None if it is a blob itself."""
    if data[: len(_REFERENCE_MAGIC)] != _REFERENCE_MAGIC:
        return None
    fields = read_json(data[len(_REFERENCE_MAGIC) :], "a reference to a shared Core ML model")
    key, function = fields.get("key"), fields.get("functionName")
    if fields.get("version") != 1 or not isinstance(key, str) or not isinstance(function, str):
        raise ProgramError(f"a reference to a shared Core ML model is not of version 1: {fields}")
    return Reference(key, function)


def resolve(pte: PteFile, delegate: schema.BackendDelegate) -> tuple[CoreMLModel, str]:
    """The model of a Core ML delegate and the function to call in it.

    Raises ProgramError if it is not Core ML's or its data is malformed.
    """
    if delegate.id != BACKEND:
        raise ProgramError(f"delegate {delegate.id!r} is not {BACKEND}")
    data = pte.delegate_data(delegate)
    reference = read_reference(data)
    if reference is None:
        return CoreMLModel(read_blob(data).files), MAIN
    shared = pte.named_data.get(reference.key)
    if shared is None:
        raise ProgramError(f"shared Core ML model {reference.key!r} is not in the program")
    return CoreMLModel(read_blob(shared).files), reference.function


def parse_model(data: bytes | memoryview) -> Model_pb2.Model:
    """Parse ``model.mlmodel``. Raises ProgramError if it is not a ``Model`` protobuf."""
    from google.protobuf.message import DecodeError

    from pte_foundry.upstream.coremltools_protobuf import Model_pb2

    try:
        return Model_pb2.Model.FromString(bytes(data))
    except DecodeError as error:
        raise ProgramError(f"model.mlmodel is malformed: {error}") from error


def read_json(data: memoryview, what: str, of: tuple[type, ...] = (dict,)) -> Any:
    """Parse JSON. Raises ProgramError if it is malformed, or of other types than wanted."""
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"{what} is malformed: {error}") from error
    if not isinstance(value, of):
        raise ProgramError(f"{what} is a {type(value).__name__}, which is not expected")
    return value


def write_json(value: object) -> bytes:
    """JSON that is the same for equal values."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
