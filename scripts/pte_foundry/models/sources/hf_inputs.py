"""Inputs of models of Hugging Face transformers, as a snapshot's own preprocessing makes them."""

import inspect
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

from pte_foundry.errors import ModelError
from pte_foundry.models.sources import samples
from pte_foundry.models.sources.hf_snapshot import Snapshot

Keywords = dict[str, Tensor]
_PREPROCESSOR = "preprocessor_config.json"


def example(snapshot: Snapshot) -> Keywords:
    """Returns a sample of any content.

    Raises:
        ModelError: the model takes something else than images, tokens and audio.
    """
    sample: Keywords = {}
    for name in snapshot.inputs:
        match name:
            case "pixel_values":
                sample[name] = _noise(snapshot)
            case "input_ids":
                sample |= _tokens(snapshot, ["The quick brown fox jumps over the lazy dog."])[0]
            case "input_features" | "input_values":
                sample[name] = torch.randn(_audio_shape(snapshot, name))
            case _:
                raise ModelError(
                    f"cannot make {name}, which {snapshot.kind.__name__} takes; a `module` must "
                    "define example_inputs()"
                )
    return _with_decoder(snapshot, sample)


def read_samples(
    snapshot: Snapshot, data: dict[str, Path]
) -> tuple[list[Keywords], list[int] | None]:
    """Returns samples from data files, and the classes of images if their folders name them.

    Raises:
        ModelError: the files are not what the model takes.
    """
    kind = snapshot.kind.__name__
    texts: list[Keywords] = []
    if "input_ids" in snapshot.inputs:
        if "text" not in data:
            raise ModelError(f"needs text, because {kind} takes tokens")
        texts = _tokens(snapshot, samples.lines(data["text"]))
        if snapshot.inputs == ("input_ids",):
            return [_with_decoder(snapshot, text) for text in texts], None
    processor = _processor(snapshot.folder)
    if "images" not in data or "pixel_values" not in snapshot.inputs or processor is None:
        raise ModelError(
            f"cannot make inputs of {kind} from this data; images need the snapshot's "
            f"{_PREPROCESSOR}, other kinds a `module`"
        )
    found = [
        (name, processor(images=image, return_tensors="pt")["pixel_values"])
        for name, image in samples.images(data["images"])
    ]
    known = {str(name): int(index) for name, index in (snapshot.config.label2id or {}).items()}
    labels = samples.labels_of([name for name, _ in found], known)
    made = [
        _with_decoder(snapshot, {**text, "pixel_values": pixels})
        for (_, pixels), text in zip(found, cycle(texts or [{}]), strict=False)
    ]
    return made, labels


def _noise(snapshot: Snapshot) -> Tensor:
    """An image of noise, as the snapshot's preprocessing makes it."""
    config = snapshot.of_images()
    size = getattr(config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else size
    noise = torch.rand(height, width, 3)
    processor = _processor(snapshot.folder)
    if processor is None:
        channels = getattr(config, "num_channels", 3)
        return torch.randn(1, channels, height, width)
    from PIL import Image

    image = Image.fromarray((noise * 255).to(torch.uint8).numpy())
    return processor(images=image, return_tensors="pt")["pixel_values"]


def _processor(folder: Path) -> Any:
    if not (folder / _PREPROCESSOR).is_file():
        return None
    return AutoImageProcessor.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )


def _audio_shape(snapshot: Snapshot, name: str) -> tuple[int, ...]:
    """The shape of an audio input, as the snapshot's preprocessing gives it for a second."""
    config = snapshot.config
    bins, positions, frames = (
        getattr(config, key, None) for key in ("num_mel_bins", "max_source_positions", "max_length")
    )
    if bins and positions:
        return 1, bins, 2 * positions
    if (snapshot.folder / _PREPROCESSOR).is_file():
        extractor = AutoFeatureExtractor.from_pretrained(
            snapshot.folder, local_files_only=True, trust_remote_code=False
        )
        rate = extractor.sampling_rate
        second = torch.linspace(-1, 1, rate).numpy()
        return tuple(extractor(second, sampling_rate=rate, return_tensors="pt")[name].shape)
    if bins and frames:
        return 1, frames, bins
    if name == "input_values":
        return 1, 16_000
    raise ModelError(
        f"found no {_PREPROCESSOR} in the snapshot, which gives the shape of {name}; add it, or "
        "a `module` must define example_inputs()"
    )


def _tokens(snapshot: Snapshot, texts: list[str]) -> list[Keywords]:
    """Texts as tokens of a fixed length.

    A causal model gets full windows of the running text, an encoder each text with its padding.
    """
    folder, config = snapshot.folder, snapshot.of_text()
    length = min(snapshot.length, getattr(config, "max_position_embeddings", None) or 1 << 20)
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        vocabulary = getattr(config, "vocab_size", 1000)
        return [{"input_ids": torch.randint(0, vocabulary, (1, length), dtype=torch.int32)}]
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if snapshot.kind.__name__.endswith(("ForCausalLM", "LMHeadModel")):
        ids = torch.tensor([i for text in texts for i in tokenizer(text)["input_ids"]])
        ids = ids.repeat(-(-length // len(ids))) if len(ids) < length else ids
        windows = ids[: len(ids) // length * length].reshape(-1, 1, length).to(torch.int32)
        return [{"input_ids": window} for window in windows]
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    found = []
    for text in texts:
        made = tokenizer(
            text, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        names = ("input_ids", "attention_mask")
        found.append({name: made[name].to(torch.int32) for name in names})
    return found


def _with_decoder(snapshot: Snapshot, sample: Keywords) -> Keywords:
    """A sample with tokens for the decoder, if there is one: the same text, or any tokens."""
    if "decoder_input_ids" not in inspect.signature(snapshot.kind.forward).parameters:
        return sample
    tokens = sample.get("input_ids")
    if tokens is None:
        config = getattr(snapshot.config, "decoder", None) or snapshot.config
        length = min(snapshot.length, getattr(config, "max_target_positions", None) or 1 << 20)
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(0, config.vocab_size, (1, length), generator=generator)
    return {**sample, "decoder_input_ids": tokens.to(torch.int32)}
