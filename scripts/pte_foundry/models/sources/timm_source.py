"""Architectures of timm (https://github.com/huggingface/pytorch-image-models) as models.

weights  a checkpoint, .safetensors
data     images: a zip archive of images; folders in it that are called like classes label them
options  architecture: its name, from the key `timm` of the config
         num_classes: of the classifier; by default that of the architecture, 0 removes it
"""

from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file
from timm.data import create_transform, resolve_model_data_config
from torch import Tensor, nn

from pte_foundry.errors import ModelError
from pte_foundry.models.sources import samples


def build(
    architecture: str, weights: Path | None = None, num_classes: int | None = None
) -> nn.Module:
    """Returns the architecture with the weights of the checkpoint, or as it is initialized."""
    model = _network(architecture, num_classes)
    if weights is not None:
        try:
            model.load_state_dict(load_file(weights))
        except RuntimeError as error:
            raise ModelError(
                f"loaded a checkpoint of another network than {architecture} with "
                f"num_classes={model.num_classes}: {' '.join(str(error).split())[:300]}"
            ) from error
    return model.eval()


def example_inputs(architecture: str) -> tuple[Tensor, ...]:
    """Returns an image of noise, normalized like those that the architecture is trained with."""
    size = resolve_model_data_config(_network(architecture, None))["input_size"]
    return (torch.randn(1, *size),)


@samples.reads("images")
def calibration(architecture: str, data: dict[str, Path]) -> list[tuple[Tensor, ...]]:
    """Returns every second image."""
    return _samples(architecture, data)[0][samples.CALIBRATION]


@samples.reads("images")
def evaluation(
    architecture: str, data: dict[str, Path]
) -> tuple[list[tuple[Tensor, ...]], Tensor | None]:
    """Returns the other images, with their classes if their folders are called like them."""
    found, names = _samples(architecture, data)
    labels = samples.labels_of(names[samples.EVALUATION], {})
    return found[samples.EVALUATION], None if labels is None else torch.tensor(labels)


def score(outputs: list[Any], labels: Tensor) -> dict[str, float]:
    """Returns the share of images whose class has the largest logit."""
    answers = torch.cat([sample[0] for sample in outputs]).argmax(1)
    return {"top1": answers.eq(labels).double().mean().item()}


def _network(architecture: str, num_classes: int | None) -> nn.Module:
    options = {} if num_classes is None else {"num_classes": num_classes}
    try:
        return timm.create_model(architecture, pretrained=False, **options)
    except RuntimeError as error:
        near = timm.list_models(f"*{architecture[:6]}*")[:5]
        raise ModelError(f"asked timm for {architecture!r}: {error}; near: {near}") from error


def _samples(
    architecture: str, data: dict[str, Path]
) -> tuple[list[tuple[Tensor, ...]], list[str]]:
    configuration = resolve_model_data_config(_network(architecture, None))
    transform = create_transform(**configuration, is_training=False)
    found = [(name, transform(image)[None]) for name, image in samples.images(data["images"])]
    return [(image,) for _, image in found], [name for name, _ in found]
