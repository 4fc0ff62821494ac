"""Core ML programs from bare protobufs: the names of hostile.py's builder, one class."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from pte_foundry.upstream.coremltools_protobuf import MIL_pb2, Model_pb2

OPSETS = {"CoreML5": 6, "CoreML6": 7, "CoreML7": 8, "CoreML8": 9, "CoreML9": 10}
_FIELDS = {"STRING": "strings", "INT32": "ints", "FLOAT32": "floats", "BOOL": "bools"}


def set_type(spec: Any, dtype: str, shape: list[int | None] | None) -> None:
    """Declare a tensor; None is an unknown size, a shape of None an unknown rank."""
    tensor = spec.tensorType
    tensor.dataType = MIL_pb2.DataType.Value(dtype)
    tensor.rank = -1 if shape is None else len(shape)
    for size in shape or ():
        dimension = tensor.dimensions.add()
        if size is None:
            dimension.unknown.variadic = False
        else:
            dimension.constant.size = size


def set_value(spec: Any, dtype: str, data: Any, shape: tuple[int, ...] = ()) -> None:
    """Write an immediate value."""
    set_type(spec.type, dtype, shape)
    tensor = spec.immediateValue.tensor
    if dtype in _FIELDS:
        getattr(tensor, _FIELDS[dtype]).values.extend(data)
    else:
        tensor.bytes.values = data


class MilProgram:
    """A program of one function."""

    def __init__(self, opset: str = "CoreML8", function: str = "main") -> None:
        self.model = Model_pb2.Model()
        self.model.specificationVersion = OPSETS.get(opset, 9)
        self.model.mlProgram.version = 1
        self.function = self.model.mlProgram.functions[function]
        self.function.opset = opset
        self.block = self.function.block_specializations[opset]
        self.weights: bytes | None = None

    def input(self, name: str, dtype: str = "FLOAT32", shape: Any = (2,)) -> MilProgram:
        given = self.function.inputs.add()
        given.name = name
        set_type(given.type, dtype, shape)
        return self

    def state(self, name: str, dtype: str, shape: Any) -> MilProgram:
        given = self.function.inputs.add()
        given.name = name
        set_type(given.type.stateType.wrappedType, dtype, shape)
        return self

    def op(self, kind: str, outputs: list[tuple], block: Any = None, **inputs: Any) -> Any:
        """Add an operation.

        Args:
            kind: its type; it is named after its first output.
            outputs: name, dtype and shape of each.
            block: to add it to; None for the function's.
            inputs: names of values, or immediate ones as (dtype, data, shape); or lists of these.
        """
        made = (block or self.block).operations.add()
        made.type = kind
        set_value(made.attributes["name"], "STRING", [outputs[0][0] if outputs else kind])
        for key, value in inputs.items():
            for one in value if isinstance(value, list) else [value]:
                argument = made.inputs[key].arguments.add()
                if isinstance(one, str):
                    argument.name = one
                else:
                    set_value(argument.value, *one)
        for name, dtype, shape in outputs:
            output = made.outputs.add()
            output.name = name
            set_type(output.type, dtype, shape)
        return made

    def const(self, name: str, dtype: str, data: Any, shape: Any = (), block: Any = None) -> None:
        made = self.op("const", [(name, dtype, shape)], block)
        set_value(made.attributes["val"], dtype, data, shape)

    def blob(self, name: str, dtype: str, shape: Any, offset: int = 64) -> None:
        """A constant in the weight file."""
        value = self.op("const", [(name, dtype, shape)]).attributes["val"]
        set_type(value.type, dtype, shape)
        value.blobFileValue.fileName = "@model_path/weights/weight.bin"
        value.blobFileValue.offset = offset

    def body(self, operation: Any, inputs: list[tuple]) -> Any:
        """Add a nested block."""
        block = operation.blocks.add()
        for name, dtype, shape in inputs:
            given = block.inputs.add()
            given.name = name
            set_type(given.type, dtype, shape)
        return block

    def loop(self, dtype: str, shape: Any, kind: str, **inputs: Any) -> MilProgram:
        """``while True: x = kind(x)``, from the input x to the output y."""
        made = self.op("while_loop", [("y", dtype, shape)], loop_vars=["x"])
        condition = self.body(made, [("c", dtype, shape)])
        self.const("true", "BOOL", [True], block=condition)
        condition.outputs.append("true")
        body = self.body(made, [("b", dtype, shape)])
        self.op(kind, [("next", dtype, shape)], body, **inputs)
        body.outputs.append("next")
        return self.end("y")

    def end(self, *names: str) -> MilProgram:
        self.block.outputs.extend(names)
        return self

    def bytes(self) -> bytes:
        return self.model.SerializeToString(deterministic=True)

    def save(self, folder: Path) -> Path:
        """Write an ``.mlpackage``."""
        inner = folder / "Data" / "com.apple.CoreML"
        inner.mkdir(parents=True)
        (inner / "model.mlmodel").write_bytes(self.bytes())
        entry = {"path": "com.apple.CoreML/model.mlmodel"}
        manifest = {"itemInfoEntries": {"R": entry}, "rootModelIdentifier": "R"}
        (folder / "Manifest.json").write_text(json.dumps(manifest))
        if self.weights is not None:
            (inner / "weights").mkdir()
            (inner / "weights" / "weight.bin").write_bytes(self.weights)
        return folder


def weight_file(*blobs: tuple[int, int, int], data: bytes = bytes(256)) -> bytes:
    """A weight file: the type, size and begin of each blob, then data."""
    entries = [struct.pack("<IIQQQ32x", 0xDEADBEEF, *blob, 0) for blob in blobs]
    return struct.pack("<II56x", len(blobs), 2) + b"".join(entries) + data


def ints(*values: int) -> tuple:
    return "INT32", list(values), (len(values),)


def number(value: float) -> tuple:
    return ("INT32" if isinstance(value, int) else "FLOAT32"), [value], ()
