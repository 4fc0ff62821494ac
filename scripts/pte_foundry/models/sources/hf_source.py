"""Models of Hugging Face transformers from a snapshot of their repository.

Only classes of transformers itself are used, and only safetensors are read.

weights  the snapshot, as one archive; for random weights it is the data file `snapshot`
data     images: a zip archive of images; folders in it that are called like classes label them
         text: a text file, a sample a line
options  class_name: of transformers; by default the first of the snapshot's `architectures`
         part: `encoder` for that of an encoder-decoder model, or the path of any other module
         sequence_length (64): tokens of a sample; longer ones are cut, shorter ones padded

An encoder-decoder model as a whole is one pass of both, without a cache: the decoder gets as many
tokens. A model of images and text, such as CLIP, takes both.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pte_foundry.errors import ModelError
from pte_foundry.models.snapshots import unpacked
from pte_foundry.models.sources import samples
from pte_foundry.models.sources.hf_inputs import Keywords, example, read_samples
from pte_foundry.models.sources.hf_snapshot import class_of, described, part_of


def build(
    data: dict[str, Path],
    weights: Path | None = None,
    class_name: str | None = None,
    part: str | None = None,
) -> nn.Module:
    """Returns the model of the snapshot, or a part of it, without caches."""
    random = data.get("snapshot")
    with unpacked(random or weights, weights=random is None) as folder:
        kind, config = class_of(folder, class_name)
        if random is not None:
            return part_of(kind(config), part).eval()
        if not list(folder.glob("*.safetensors")):
            raise ModelError(
                "found no model.safetensors in the snapshot, and other formats can run code; "
                "convert them with `model.save_pretrained(FOLDER)`, or use {random: SEED}"
            )
        model, loading = kind.from_pretrained(
            folder,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
        )
        if missing := sorted(loading["missing_keys"]):
            raise ModelError(
                f"found no weights for {', '.join(missing[:4])} in the snapshot, which is not of a "
                f"{kind.__name__}; set the option `class_name`"
            )
        return part_of(model, part).eval()


def example_inputs(
    data: dict[str, Path],
    weights: Path | None = None,
    class_name: str | None = None,
    part: str | None = None,
    sequence_length: int = 64,
) -> Keywords:
    """Returns a sample as the snapshot's own preprocessing makes it."""
    with described(data, weights, class_name, part, sequence_length) as snapshot:
        return example(snapshot)


@samples.reads("images", "text")
def calibration(
    data: dict[str, Path],
    weights: Path | None = None,
    class_name: str | None = None,
    part: str | None = None,
    sequence_length: int = 64,
) -> list[Keywords]:
    """Returns every second sample."""
    with described(data, weights, class_name, part, sequence_length) as snapshot:
        return read_samples(snapshot, data)[0][samples.CALIBRATION]


@samples.reads("images", "text")
def evaluation(
    data: dict[str, Path],
    weights: Path | None = None,
    class_name: str | None = None,
    part: str | None = None,
    sequence_length: int = 64,
) -> tuple[list[Keywords], Tensor | None]:
    """Returns the other samples; images with their classes if their folders are called so."""
    with described(data, weights, class_name, part, sequence_length) as snapshot:
        found, labels = read_samples(snapshot, data)
    labels = None if labels is None else torch.tensor(labels)[samples.EVALUATION]
    return found[samples.EVALUATION], labels


def score(outputs: list[Any], labels: Tensor) -> dict[str, float]:
    """Returns the share of images whose class has the largest logit."""
    logits = outputs[0].get("logits")
    if logits is None or logits.ndim != 2:
        return {"labels": float(len(labels))}
    answers = torch.cat([sample["logits"] for sample in outputs]).argmax(1)
    return {"top1": answers.eq(labels).double().mean().item()}
