"""Core ML models on disk: an ``.mlpackage`` folder, its manifest and its ``Model`` protobuf.

Formats: ``modelpackage/src/ModelPackage.cpp`` (the manifest) and ``mlmodel/format/Model.proto`` and
``MIL.proto`` of coremltools 9.0. Paths and bytes are checked, not trusted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from google.protobuf.message import DecodeError

from pte_foundry.errors import ProgramError
from pte_foundry.formats.untrusted import read_file
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2, Model_pb2

_MANIFEST_BYTES = 1 << 20
_MODEL_BYTES = 1 << 30
"""Limits on the size of the files; weights are in a file of their own."""


def read_package(package: Path) -> tuple[Model_pb2.Model, Path | None]:
    """Read the model of an ``.mlpackage`` folder.

    Returns:
        The model, and the path of its weight file if it has one.

    Raises:
        ProgramError: the folder, its manifest or its model is malformed.
    """
    path = _model_file(package)
    weights = path.parent / "weights" / "weight.bin"
    try:
        model = parse_model(read_file(path, _MODEL_BYTES))
        return model, weights if weights.exists() else None
    except OSError as error:
        raise ProgramError(f"{package} cannot be read: {error}") from error


def parse_model(data: bytes | memoryview) -> Model_pb2.Model:
    """Parse the bytes of ``model.mlmodel``.

    Raises:
        ProgramError: they are not a ``Model`` protobuf.
    """
    try:
        return Model_pb2.Model.FromString(bytes(data))
    except DecodeError as error:
        raise ProgramError(f"model.mlmodel is not a Core ML model: {error}") from error


def functions_of(model: Model_pb2.Model) -> Mapping[str, MIL_pb2.Function]:
    """Functions of an ML program by name.

    Raises:
        ProgramError: the model is of another type, a neural network for example.
    """
    if model.WhichOneof("Type") != "mlProgram":
        raise ProgramError(f"the model is a {model.WhichOneof('Type')}, expected an ML program")
    return model.mlProgram.functions


def body_of(function: MIL_pb2.Function) -> MIL_pb2.Block:
    """Body of a function for the opset that it declares.

    Raises:
        ProgramError: the function has no body for it.
    """
    body = function.block_specializations.get(function.opset)
    if body is None:
        found = ", ".join(sorted(function.block_specializations)) or "none"
        raise ProgramError(f"no body for the function's opset {function.opset!r}; found {found}")
    return body


def _model_file(package: Path) -> Path:
    """The file that the manifest names as the root model, checked to be inside the package."""
    try:
        manifest = json.loads(read_file(package / "Manifest.json", _MANIFEST_BYTES))
        root = manifest["rootModelIdentifier"]
        inside = PurePosixPath(manifest["itemInfoEntries"][root]["path"])
    except OSError as error:
        raise ProgramError(f"{package} is not an .mlpackage: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProgramError(f"{package / 'Manifest.json'} is malformed: {error!r}") from error
    if inside.is_absolute() or ".." in inside.parts:
        raise ProgramError(f"the manifest's model path {str(inside)!r} leaves the package")
    model = package / "Data" / inside
    try:
        found = model.is_file()
    except (OSError, ValueError):  # a name that is too long, or that no file can have
        found = False
    if not found:
        raise ProgramError(f"the package has no file {str(inside)!r}")
    return model
