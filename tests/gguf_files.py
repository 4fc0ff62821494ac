"""Made-up GGUF files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize


def write_gguf(
    path: Path,
    architecture: str,
    tensors: Mapping[str, tuple[np.ndarray, str]],
    fields: Mapping[str, int | float | str] | None = None,
    tokens: Sequence[str] = (),
    merges: Sequence[str] = (),
    split: str = "default",
) -> Path:
    """Writes a GGUF file.

    Args:
        path: the file.
        architecture: what llama.cpp calls the model.
        tensors: by name, the values and the type that they are stored as, such as ``"Q4_1"``.
        fields: the metadata, without the architecture before their names.
        tokens: of a byte-level tokenizer; without them the file has no tokenizer.
        merges: pairs of tokens, as ``"a b"``.
        split: how llama.cpp splits text before it merges pairs.

    Returns:
        The file.
    """
    writer = GGUFWriter(path, architecture)
    add = {int: writer.add_uint32, float: writer.add_float32, str: writer.add_string}
    for key, value in (fields or {}).items():
        add[type(value)](f"{architecture}.{key}", value)
    if tokens:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(split)
        writer.add_token_list(list(tokens))
        writer.add_token_merges(list(merges))
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(1)
    for name, (values, kind) in tensors.items():
        stored = GGMLQuantizationType[kind]
        writer.add_tensor(name, quantize(values, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
