"""What a snapshot of transformers or an architecture of timm is, seen without its weights.

The network is made on torch's `meta` device: it has shapes and no memory, so that a large one takes
as long as a small one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn

from pte_foundry.errors import ModelError
from pte_foundry.findings import did_you_mean
from pte_foundry.models.outputs import named_outputs
from pte_foundry.models.snapshots import CONFIG, unpacked
from pte_foundry.models.tensors import as_sample, output_names_of

_WIDTH = 94  # characters of a description
_LARGEST = 500_000_000  # parameters of a model that is made in memory


@dataclass(frozen=True)
class Look:
    """What is known of a network before it is built.

    Attributes:
        kind: its class or architecture.
        task: in words; empty if unknown.
        inputs: shapes and dtypes, by name.
        outputs: shapes and dtypes, by name.
        options: of the config, without which it cannot be built.
        reads: the data files that it can be evaluated on: ``images``, ``text``.
        checkpoint: the repository of its weights, if that is known.
        license: of its weights, if that is known.
    """

    kind: str
    task: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    options: Mapping[str, Any] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    checkpoint: str | None = None
    license: str | None = None

    def __str__(self) -> str:
        words = ", ".join(filter(None, (self.kind, self.task)))
        text = f"{words}: {', '.join(self.inputs)} -> {', '.join(self.outputs)}"
        return shorten(text, _WIDTH, placeholder=" …")


def snapshot(archive: Path) -> Look:
    """Looks at a snapshot that ``snapshots.pack`` has packed; weights are not needed.

    Of an encoder-decoder model, which needs the tokens so far, it is the encoder.

    Raises:
        ModelError: this is no model of transformers, or its inputs are not known.
    """
    from pte_foundry.upstream.torchvision_operators import make_importable

    make_importable()
    from pte_foundry.models.sources import hf_source
    from pte_foundry.models.sources.hf_snapshot import class_of

    with unpacked(archive, weights=False) as folder:
        if name := _architecture_in((folder / CONFIG).read_text(encoding="utf-8")):
            raise ModelError(
                f"this is a checkpoint of timm, not of transformers; use --from timm:{name}, in a "
                "folder with --weights FOLDER/model.safetensors"
            )
        kind, _ = class_of(folder, None)
    data = {"snapshot": archive}
    inputs, part = hf_source.example_inputs(data), None
    if any(name.startswith("decoder_") for name in inputs):
        part = "encoder"
        inputs = hf_source.example_inputs(data, part=part)
    reads = {"pixel_values": "images", "input_ids": "text"}
    build = partial(hf_source.build, data, part=part)
    return Look(
        kind.__name__,
        _task(kind.__name__),
        _shapes(inputs),
        _shapes(_outputs(_without_memory(build), build, inputs)),
        {} if part is None else {"part": part},
        tuple(reads[name] for name in inputs if name in reads),
    )


def _architecture_in(text: str) -> str | None:
    """Returns the architecture that a config.json of timm names; None: it is another file."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    named = isinstance(found, dict) and "model_type" not in found and "pretrained_cfg" in found
    if not named or not isinstance(found["pretrained_cfg"], dict):
        return None
    tag = found["pretrained_cfg"].get("tag")
    return f"{found.get('architecture')}{f'.{tag}' if tag else ''}"


def architecture(name: str) -> Look:
    """Looks at an architecture of timm.

    Raises:
        ModelError: timm has none of this name.
    """
    from pte_foundry.upstream.torchvision_operators import make_importable

    make_importable()
    import timm
    from timm.data import resolve_model_data_config

    from pte_foundry.models.sources import timm_source

    plain = name.partition(".")[0]  # without the tag of its weights
    if not timm.is_model(plain):
        near = did_you_mean(plain, timm.list_models(), "timm.list_models() has all of them")
        raise ModelError(f"timm {timm.__version__} has no architecture {name!r}; {near}")
    build = partial(timm_source.build, name)
    model = _without_memory(build)
    # Not of timm_source.example_inputs, which makes the network in memory for the size.
    inputs = {"x": torch.zeros(1, *resolve_model_data_config(model)["input_size"])}
    outputs = _outputs(model, build, inputs, positional=True)
    described = getattr(model, "pretrained_cfg", {})
    classes = getattr(model, "num_classes", 0)
    return Look(
        name,
        f"image classification, {classes} classes" if classes else "image features",
        _shapes(inputs),
        _shapes(outputs),
        reads=("images",),
        checkpoint=described.get("hf_hub_id") or None,
        license=described.get("license") or None,
    )


def _task(class_name: str) -> str:
    """The task of a class of transformers, by the table of models for a task that it is in."""
    from transformers.models.auto import modeling_auto

    for table, classes in vars(modeling_auto).items():
        named = table.startswith("MODEL_FOR_") and table.endswith("_MAPPING_NAMES")
        if named and "PRETRAINING" not in table and class_name in classes.values():
            words = table.removeprefix("MODEL_FOR_").removesuffix("_MAPPING_NAMES")
            return words.replace("_", " ").lower()
    return ""


def _without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.device("meta"):
        return build()


def _outputs(
    model: nn.Module,
    build: Callable[[], nn.Module],
    inputs: Mapping[str, Tensor],
    positional: bool = False,
) -> Mapping[str, Tensor]:
    """The outputs of a model by name: without memory, or in memory if that is not possible.

    Args:
        model: without memory.
        build: makes it.
        inputs: to run it with.
        positional: whether it takes them by position.
    """
    try:
        return _run(model, {n: tensor.to("meta") for n, tensor in inputs.items()}, positional)
    except ModelError:
        if sum(each.numel() for each in model.parameters()) > _LARGEST:
            raise
        return _run(build(), inputs, positional)


def _run(model: nn.Module, inputs: Mapping[str, Tensor], positional: bool) -> Mapping[str, Tensor]:
    arguments, keywords = (tuple(inputs.values()), {}) if positional else ((), dict(inputs))
    found: list[Any] = []
    hook = model.register_forward_hook(lambda _module, _inputs, returned: found.append(returned))
    try:
        # Some masks depend on values when they run, but not when they are traced.
        with suppress(RuntimeError), torch.no_grad():
            model(*arguments, **keywords)
        if not found:
            torch.export.export(model, arguments, keywords, strict=False)
        outputs = named_outputs(found[-1])
    except ModelError as error:
        raise ModelError(f"{type(model).__name__} {error}") from error
    except Exception as error:
        text = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{type(model).__name__} does not run with {', '.join(inputs)} alone "
            f"({type(error).__name__}: {text})"
        ) from error
    finally:
        hook.remove()
    return dict(zip(output_names_of(outputs), as_sample(outputs), strict=True))


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    return {
        name: f"{'×'.join(map(str, tensor.shape)) or 'scalar'} "
        f"{str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in tensors.items()
    }
