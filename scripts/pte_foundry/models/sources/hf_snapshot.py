"""A snapshot of Hugging Face transformers: the class that is built, and what it takes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import transformers
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel

from pte_foundry.errors import ModelError
from pte_foundry.models.snapshots import unpacked


class Snapshot(NamedTuple):
    """What describes the model of a snapshot, or the part of it that is built.

    Attributes:
        folder: the snapshot, without weights.
        kind: the class that is exported.
        config: that of the class.
        inputs: what its ``forward()`` is given.
        length: tokens of a sample.
    """

    folder: Path
    kind: type[nn.Module]
    config: PretrainedConfig
    inputs: tuple[str, ...]
    length: int

    def of_text(self) -> PretrainedConfig:
        """The configuration of what reads tokens."""
        return getattr(self.config, "text_config", None) or self.config

    def of_images(self) -> PretrainedConfig:
        """The configuration of what reads images."""
        return getattr(self.config, "vision_config", None) or self.config


@contextmanager
def described(
    data: dict[str, Path],
    weights: Path | None,
    class_name: str | None,
    part: str | None,
    tokens: int,
) -> Iterator[Snapshot]:
    """Within this context a snapshot is unpacked, and what is built of it is known."""
    with unpacked(data.get("snapshot") or weights, weights=False) as folder:
        kind, config = class_of(folder, class_name)
        main = kind.main_input_name
        if part is not None:
            with torch.device("meta"):  # only to know what the part is
                built = part_of(kind(config), part)
            if isinstance(built, PreTrainedModel):
                kind, config, main = type(built), built.config, built.main_input_name
        both = hasattr(kind, "get_text_features") and hasattr(kind, "get_image_features")
        inputs = ("input_ids", "pixel_values") if both else (main,)
        yield Snapshot(folder, kind, config, inputs, tokens)


def _config(folder: Path, kind: type[PretrainedConfig] | None = None) -> PretrainedConfig:
    try:
        # The fused attention of Core ML gives nan in fp16 on some devices (executorch#15833).
        config = (kind or transformers.AutoConfig).from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, attn_implementation="eager"
        )
    except Exception as error:  # of any type: each class checks its values
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"cannot read the snapshot's config.json: {text}") from error
    _switch_caches_off(config)
    return config


def _switch_caches_off(config: PretrainedConfig) -> None:
    """Caches are no tensors. A model of several networks has a configuration of each."""
    config.use_cache = False
    for name in config.sub_configs:
        if isinstance(inner := getattr(config, name, None), PretrainedConfig):
            _switch_caches_off(inner)


def class_of(folder: Path, name: str | None) -> tuple[type[PreTrainedModel], PretrainedConfig]:
    """Returns the class of the model, and its configuration: of CLIPVisionModel, a part of it.

    Raises:
        ModelError: there is no such class, or no configuration.
    """
    config = _config(folder)
    names = [name] if name else [*(config.architectures or ()), "AutoModel"]
    if names[0] == "AutoModel":
        names = [
            getattr(transformers.MODEL_MAPPING.get(type(config), None), "__name__", "AutoModel")
        ]
    kind = getattr(transformers, names[0], None)
    if not isinstance(kind, type) or not issubclass(kind, PreTrainedModel):
        raise ModelError(
            f"found no model {names[0]} in transformers {transformers.__version__}, and code of "
            "the repository is not run; set the option `class_name`, or write a `module`"
        )
    own = kind.config_class
    same = own is None or isinstance(config, own)
    return kind, config if same else _config(folder, own)


def part_of(model: PreTrainedModel, part: str | None) -> nn.Module:
    """Returns a part of a model, or all of it. Raises ModelError if it has no such part."""
    if part is None:
        return model
    try:
        return model.get_encoder() if part == "encoder" else model.get_submodule(part)
    except AttributeError as error:
        children = ", ".join(name for name, _ in model.named_children())
        raise ModelError(f"has no part {part!r}; parts: {children}") from error
