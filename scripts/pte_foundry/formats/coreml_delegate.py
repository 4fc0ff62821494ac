"""Contents of a Core ML delegate: a model package, its metadata, and debugging information.

Format: executorch 1.5, ``backends/apple/coreml/compiler/coreml_preprocess.py``. The data of a
delegate is either a blob (:mod:`pte_foundry.formats.delegate_blob`) or, when several methods share
one model, a reference: the key of a blob in the program's named data, and the function to call.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pte_foundry.canonical_json import canonical
from pte_foundry.errors import ProgramError
from pte_foundry.formats import pte_schema
from pte_foundry.formats.delegate_blob import read_blob
from pte_foundry.formats.mlpackage import parse_model
from pte_foundry.formats.pte_file import PteFile
from pte_foundry.upstream.coremltools_protobuf import Model_pb2

BACKEND = "CoreMLBackend"
COMPUTE_UNITS = ("all", "cpu_only", "cpu_and_gpu", "cpu_and_ne")
NAMED_PREFIX = "coreml_"
"""Prefix of a shared blob's key in the named data; the blob's identifier follows."""

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
    """An unpacked Core ML delegate blob.

    Attributes:
        files: contents by path, as :func:`pte_foundry.formats.delegate_blob.read_blob` gives them.
    """

    files: Mapping[str, memoryview]

    @cached_property
    def metadata(self) -> dict[str, Any]:
        """``metadata.json``. Raises ProgramError if it is missing or malformed."""
        return parse_json(self._file(METADATA), METADATA)

    @property
    def shared_key(self) -> str | None:
        """What identifies a model that methods share, with a function for each of them."""
        return str(self.metadata.get("identifier")) if "methods" in self.metadata else None

    @property
    def compiled(self) -> bool:
        """Whether the model is in the format of Apple's compiler (``mlmodelc``)."""
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
        """The parsed model. Raises ProgramError for a compiled or malformed one."""
        return parse_model(self.model)

    @cached_property
    def debug_info(self) -> dict[str, Any]:
        """``debug_info.json``: debug handles by MIL value. Empty for multifunction models."""
        contents = self.files.get(DEBUG_INFO)
        return {} if contents is None else parse_json(contents, DEBUG_INFO)

    def names(self, function: str) -> tuple[list[str], list[str]]:
        """Names of a function's inputs and outputs, in the order of a delegate call's arguments.

        Raises ProgramError if ``metadata.json`` does not list them.
        """
        described = self.metadata
        if "methods" in described:
            methods = described["methods"]
            described = methods.get(function) if isinstance(methods, dict) else None
        names = [described.get(k) if isinstance(described, dict) else None for k in _NAMES]
        if not all(isinstance(n, list) and all(isinstance(s, str) for s in n) for n in names):
            raise ProgramError(
                f"{METADATA} has no inputNames and outputNames for the function {function!r}"
            )
        return names[0], names[1]

    def handles(self) -> set[int]:
        """Debug handles of the torch operators in the model, without 0, which means unknown."""
        symbols = self.debug_info.get("debugSymbolToHandles")
        lists = symbols.values() if isinstance(symbols, dict) else ()
        return {h for handles in lists if isinstance(handles, list) for h in handles if _handle(h)}

    def _file(self, path: str) -> memoryview:
        if path not in self.files:
            found = ", ".join(self.files) or "nothing"
            raise ProgramError(f"a Core ML blob has no {path}; it contains {found}")
        return self.files[path]


_NAMES = ("inputNames", "outputNames")


def _handle(value: object) -> bool:
    return type(value) is int and value > 0


@dataclass(frozen=True)
class Reference:
    """A delegate's data that refers to a blob shared by several methods.

    Attributes:
        key: of the blob in the program's named data.
        function: the one to call in the blob's model.
    """

    key: str
    function: str

    def to_bytes(self) -> bytes:
        """The delegate's data, as upstream writes it."""
        fields = {"version": 1, "key": self.key, "functionName": self.function}
        return _REFERENCE_MAGIC + canonical(fields).encode()


def read_reference(data: memoryview) -> Reference | None:
    """Parse a delegate's data as a reference; None if it is a blob.

    Raises ProgramError if the reference is malformed or of an unknown version.
    """
    if data[: len(_REFERENCE_MAGIC)] != _REFERENCE_MAGIC:
        return None
    fields = parse_json(data[len(_REFERENCE_MAGIC) :], "a reference to a shared Core ML model")
    key, function = fields.get("key"), fields.get("functionName")
    if fields.get("version") != 1 or not isinstance(key, str) or not isinstance(function, str):
        raise ProgramError(
            f"a reference to a shared Core ML model is {fields}, expected version 1 with a key and "
            "a functionName"
        )
    return Reference(key, function)


def resolve(
    pte: PteFile,
    delegate: pte_schema.BackendDelegate,
    known: dict[str, CoreMLModel] | None = None,
) -> tuple[CoreMLModel, str]:
    """The model of a Core ML delegate and the function to call in it.

    Args:
        pte: the program.
        delegate: of the program.
        known: shared models that were resolved before, by key of their blob; gets this one.

    Raises ProgramError if the delegate belongs to another backend or its data is malformed.
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
    known = {} if known is None else known
    if reference.key not in known:
        known[reference.key] = CoreMLModel(read_blob(shared).files)
    return known[reference.key], reference.function


def parse_json(data: bytes | memoryview, what: str, of: tuple[type, ...] = (dict,)) -> Any:
    """Parse JSON from a file.

    Args:
        data: UTF-8 text.
        what: what the JSON is, for the error message.
        of: the types that its top level may have.

    Raises ProgramError if it is malformed or of another type.
    """
    try:
        value = json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise ProgramError(f"{what} is malformed: {error}") from error
    if not isinstance(value, of):
        expected = " or ".join(kind.__name__ for kind in of)
        raise ProgramError(f"{what} is a {type(value).__name__}, expected a {expected}")
    return value
