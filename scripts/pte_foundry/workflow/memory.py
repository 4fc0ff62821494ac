"""How much memory a stage needs, from the size of its model: the rules' ``mem_mb``."""

import json
import zipfile
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from math import prod
from pathlib import Path
from typing import Any

from pte_foundry.config.config import Config
from pte_foundry.workflow.stages import STAGES

MEBIBYTE = 2**20

# At most so many bytes of fp32 for each byte of a quantized GGUF file (4-bit types: 6 to 7).
_GGUF_EXPANSION = 8

NEEDS = {
    f"{stage}, {case}" if case else stage: need
    for stage, entry in STAGES.items()
    for case, need in entry.memory.items()
}
"""By stage, and after a comma a case in which the stage needs something else."""


def needed(name: str, size: float = 0.0) -> int:
    """Returns the memory in MB to request for an entry of ``NEEDS`` and a size in MB."""
    need = NEEDS[name]
    return round(need.base + need.factor * size)


def case(config: Config, stage: str, recipe: str = "", target: str = "") -> str:
    """Returns the entry of ``NEEDS`` for a job.

    Args:
        config: the configuration.
        stage: the job's stage.
        recipe: its recipe or program, if it has one.
        target: its target, if it has one.
    """
    name = stage
    if stage == "pte":
        rewritten = config.targets[target].compute_units != "all"
        name = "pte, rewritten" if rewritten else stage
    elif recipe in config.recipes and config.recipes[recipe].scheme != "none":
        name = f"{stage}, compressed"
    return name if name in NEEDS else stage


def nested(builds: int) -> int:
    """Returns the memory in MB that a job on a node of a cluster takes besides its step.

    These are the two Snakemakes around it, which read the whole configuration: 102 MB each for 18
    builds and 112 MB for 1200, without the memory of files, which a scheduler can take back; and
    45 MB of libraries that a group's fork server has loaded and the step does not use.
    ``pte_foundry.bench.cluster_memory`` measures jobs as a scheduler counts them: in the default
    configuration no step takes more than 98 % of what it requests, and none less than half of it.
    Only writing an artifact takes more, where a larger step of its group has filled the server.

    Args:
        builds: how many builds the configuration has.
    """
    return 250 + builds // 50


def weights_mb(
    files: Iterable[Path], stored: Callable[[Path], int | None] = lambda file: None
) -> float:
    """Returns MB of a model's weights in fp32, from the first of ``files`` that exists, else 0.

    Args:
        files: exported programs or files of weights, the most reliable first.
        stored: returns the bytes of a file that is not on this disk, or None if it does not exist.
    """
    for file in files:
        try:
            status = file.stat()
        except OSError:
            if size := stored(file):
                # Weights are often stored as 16-bit numbers, which only their header tells.
                factor = {".gguf": _GGUF_EXPANSION, ".safetensors": 2}.get(file.suffix, 1)
                return factor * size / MEBIBYTE
            continue
        return _fp32_bytes(file, status.st_size, status.st_mtime_ns) / MEBIBYTE
    return 0.0


@cache
def _fp32_bytes(file: Path, size: int, _changed: int) -> int:
    """Returns the bytes of a file's numbers in fp32; unknown formats are assumed to be fp32.

    Of a snapshot they are those that a model of its description has.
    """
    if file.suffix == ".gguf":
        return _GGUF_EXPANSION * size
    count = {".safetensors": _safetensors_elements, ".zip": _snapshot_elements}.get(file.suffix)
    if count is None:
        return size
    try:
        return 4 * count(file)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, zipfile.BadZipFile):
        return size  # damaged, which its step reports; or the snapshot of another architecture


def _snapshot_elements(file: Path) -> int:
    with zipfile.ZipFile(file) as archive:
        return parameters(json.loads(archive.read("config.json")))


def parameters(shape: Mapping[str, Any]) -> int:
    """Returns the number of parameters of a Llama with this ``config.json``; a tied head's once.

    Raises:
        KeyError: it is of another architecture.
    """
    size, inner = shape["hidden_size"], shape["intermediate_size"]
    heads = 2 * shape["num_attention_heads"] + 2 * shape["num_key_value_heads"]
    block = size * (heads * shape["head_dim"] + 3 * inner) + 2 * size
    tables = 1 if shape["tie_word_embeddings"] else 2
    return shape["num_hidden_layers"] * block + tables * shape["vocab_size"] * size + size


def _safetensors_elements(file: Path) -> int:
    """https://huggingface.co/docs/safetensors: the length of a JSON header, and the header."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(min(length, file.stat().st_size)))
    return sum(prod(entry["shape"]) for key, entry in header.items() if key != "__metadata__")
