"""The parameters of a decoder, from safetensors; ``gguf`` gives them from a GGUF file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from pte_foundry.errors import ModelError
from pte_foundry.models.decoder.config import DecoderConfig
from pte_foundry.models.decoder.network import Decoder, SplitLinear

Weights = Iterable[tuple[str, Callable[[], Tensor]]]
"""Names as in transformers, each with a function that reads the tensor."""

INDEX = "model.safetensors.index.json"
_TEXT = re.compile(r"^(?:language_model\.model\.|model\.language_model\.|model\.)?(?=[a-z])")
_OTHER = re.compile(
    r"(?:model\.)?(?:vision_tower|multi_modal_projector|embed_vision)\.|.*\.inv_freq$"
)


def safetensors_of(folder: Path, config: DecoderConfig) -> Iterator[tuple[str, Callable]]:
    """Yields the tensors of a snapshot, in one file or in several with an index.

    A tensor is read when its function is called, from a file that is mapped for that time only:
    what has been read of a mapped file counts as memory of the process.

    Raises:
        ModelError: there are none, or a file is damaged.
    """
    for path in _files(folder):
        with _opened(path) as file:
            names = list(file.keys())
        for name in names:
            found = text_name(name)
            if found is not None:
                yield found, lambda p=path, n=name: _offset(n, _read(p, n), config)


@contextmanager
def _opened(path: Path) -> Iterator[safe_open]:
    try:
        with safe_open(path, "pt") as file:
            yield file
    except SafetensorError as error:
        raise ModelError(f"cannot read {path.name} of the snapshot: {error}") from error


def _read(path: Path, name: str) -> Tensor:
    """A tensor in fp32, in memory of its own."""
    with _opened(path) as file:
        return file.get_tensor(name).to(torch.float32, copy=True)


def _files(folder: Path) -> list[Path]:
    if (folder / INDEX).is_file():
        index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        found = [folder / name for name in sorted(set(index["weight_map"].values()))]
    else:
        found = sorted(folder.glob("model*.safetensors"))
    missing = [path.name for path in found if not path.is_file()]
    if missing or not found:
        raise ModelError(
            f"found no {missing[0] if missing else 'model.safetensors'} in the snapshot, and "
            "other formats can run code; convert them with `model.save_pretrained(FOLDER)`"
        )
    return found


def text_name(name: str) -> str | None:
    """Returns a tensor's name in a model of text alone; None if it is of another part."""
    if _OTHER.match(name):
        return None
    if name.endswith("lm_head.weight"):
        return "lm_head.weight"
    return _TEXT.sub("model.", name, count=1)


def _offset(name: str, tensor: Tensor, config: DecoderConfig) -> Tensor:
    """The weight of a norm as it multiplies: Gemma's files hold it minus one."""
    if config.norm_offset and name.endswith("norm.weight"):
        return tensor.to(torch.float32) + config.norm_offset
    return tensor


def load_weights(decoder: Decoder, weights: Weights) -> Decoder:
    """Gives a decoder its weights, one tensor after another; returns it in eval mode.

    A tied head is a parameter of its own on the same memory: as one parameter, a scheme for the
    embedding alone is a conflict in coremltools (executorch#21856), and equal constants are stored
    once in a Core ML program anyway.

    Raises:
        ModelError: a tensor is missing, has another shape, or is not the model's.
    """
    unknown = []
    for name, read in weights:
        if name == "lm_head.weight" and decoder.config.tied:
            continue
        known = _assign(decoder, name, read)
        unknown += [] if known else [name]
    if unknown:
        raise ModelError(
            f"found weights that a {decoder.config.family} has no use for: {_some(unknown)}"
        )
    embedding = decoder.model.embed_tokens.weight
    if decoder.config.tied and not embedding.is_meta:
        _assign(decoder, "lm_head.weight", lambda: embedding.detach())
    missing = [name for name, value in decoder.named_parameters() if value.is_meta]
    if missing:
        raise ModelError(f"found no weights for {_some(missing)}")
    return decoder.eval().requires_grad_(False)


def _some(names: list[str]) -> str:
    rest = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(sorted(names)[:4]) + rest


def _assign(decoder: Decoder, name: str, read: Callable[[], Tensor]) -> bool:
    """Sets a parameter, or those of the parts of a linear; returns whether there is one."""
    path, _, kind = name.rpartition(".")
    try:
        module = decoder.get_submodule(path)
    except AttributeError:
        return False
    if isinstance(module, SplitLinear):
        owners, size = list(module.parts), sum(module.sizes)
        shape = (size, *getattr(owners[0], kind).shape[1:])
    else:
        owners = [module]
        if not isinstance(getattr(module, kind, None), nn.Parameter):
            return False
        shape = tuple(getattr(module, kind).shape)
    tensor = read().to(torch.float32)
    if tuple(tensor.shape) != shape:
        raise ModelError(
            f"found {name} with shape {list(tensor.shape)}, and the model's config describes one "
            f"of {list(shape)}"
        )
    parts = tensor.split([getattr(owner, kind).shape[0] for owner in owners])
    for owner, part in zip(owners, parts, strict=True):
        setattr(owner, kind, nn.Parameter(part, requires_grad=False))
    return True


def random_weights(decoder: Decoder) -> Decoder:
    """Gives a decoder weights as transformers initializes them, with a seed of torch's generator.

    The numbers are numpy's: in the environment of the steps (``job.deterministic_env``) torch's
    take 0.1 µs each, two minutes for a billion.
    """
    ones = tuple(name for name, _ in decoder.named_parameters() if "norm" in name)
    numbers = np.random.Generator(np.random.SFC64(int(torch.randint(1 << 62, ()))))

    def made(name: str, shape: torch.Size) -> Tensor:
        if name in ones:
            return torch.ones(shape)
        if name.endswith("bias"):
            return torch.zeros(shape)
        return torch.from_numpy(numbers.standard_normal(shape, np.float32)).mul_(0.02)

    found = {name: value.shape for name, value in decoder.named_parameters()}
    weights = ((name, lambda n=name, s=shape: made(n, s)) for name, shape in found.items())
    return load_weights(decoder, weights)
