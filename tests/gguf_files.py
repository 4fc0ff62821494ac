"""Made-up GGUF files."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize


def write_gguf(
    path: Path,
    architecture: str,
    tensors: Mapping[str, tuple[np.ndarray, str]],
    fields: Mapping[str, int | float | str] | None = None,
) -> Path:
    """Writes a GGUF file.

    Args:
        path: the file.
        architecture: what llama.cpp calls the model.
        tensors: by name, the values and the type that they are stored as, such as ``"Q4_1"``.
        fields: the metadata, without the architecture before their names.

    Returns:
        The file.
    """
    writer = GGUFWriter(path, architecture)
    add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in (fields or {}).items():
        add[type(value)](f"{architecture}.{key}", value)
    for name, (values, kind) in tensors.items():
        stored = GGMLQuantizationType[kind]
        writer.add_tensor(name, quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
