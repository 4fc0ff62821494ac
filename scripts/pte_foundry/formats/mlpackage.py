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
from pte_foundry.upstream.coremltools_protobuf import MIL_pb2, Model_pb2


def read_package(package: Path) -> tuple[Model_pb2.Model, Path]:
    """Read the model of an ``.mlpackage`` folder.

    Returns:
        The model, and the path at which its weight file is if it has one.

    Raises:
        ProgramError: the folder, its manifest or its model is malformed.
    """
    model = _model_file(package)
    return parse_model(model.read_bytes()), model.parent / "weights" / "weight.bin"


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
        manifest = json.loads((package / "Manifest.json").read_bytes())
        root = manifest["rootModelIdentifier"]
        inside = PurePosixPath(manifest["itemInfoEntries"][root]["path"])
    except OSError as error:
        raise ProgramError(f"{package} is not an .mlpackage: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ProgramError(f"{package / 'Manifest.json'} is malformed: {error!r}") from error
    if inside.is_absolute() or ".." in inside.parts:
        raise ProgramError(f"the manifest's model path {str(inside)!r} leaves the package")
    model = package / "Data" / inside
    if not model.is_file():
        raise ProgramError(f"the package has no file {model.relative_to(package)}")
    return model
