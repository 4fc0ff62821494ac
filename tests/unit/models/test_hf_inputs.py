"""Protects that inputs fit what is built of a snapshot: all of it, a part, or one of its classes.

The models have random weights, and run eagerly; `test_sources` exports some.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from pte_foundry.errors import ModelError
from pte_foundry.models import snapshots
from pte_foundry.upstream.torchvision_operators import make_importable

make_importable()

from transformers import (  # noqa: E402
    ASTConfig,
    BertTokenizerFast,
    CLIPConfig,
    CLIPImageProcessor,
    VisionEncoderDecoderConfig,
)

SMALL = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
}
TOKENS = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
CLIP = CLIPConfig(
    text_config=SMALL | TOKENS | {"max_position_embeddings": 12},
    vision_config=SMALL | {"image_size": 16, "patch_size": 8},
    projection_dim=4,
    architectures=["CLIPModel"],
)
SPECTRA = ASTConfig(
    **SMALL, max_length=32, num_mel_bins=16, architectures=["ASTForAudioClassification"]
)


@pytest.fixture
def untrained(load, folders, tmp_path):
    """Loads the model of a configuration, or of a shared snapshot, with random weights."""

    def untrained(given, **options):
        if isinstance(given, str):
            return load(folders / given, seed=0, **options)
        given.save_pretrained(tmp_path / "snapshot")
        return load(tmp_path / "snapshot", seed=0, **options)

    return untrained


@pytest.mark.parametrize(
    ("given", "options", "inputs", "outputs"),
    [
        (
            "whisper",
            {},
            {"input_features": (1, 8, 20), "decoder_input_ids": (1, 10)},
            ["logits", "encoder_last_hidden_state"],
        ),
        (
            CLIP,
            {},
            {"input_ids": (1, 12), "pixel_values": (1, 3, 16, 16)},
            ["logits_per_image", "logits_per_text", "text_embeds", "image_embeds"],
        ),
        (CLIP, {"part": "text_model"}, {"input_ids": (1, 12)}, ["last_hidden_state"]),
        (CLIP, {"part": "vision_model"}, {"pixel_values": (1, 3, 16, 16)}, ["last_hidden_state"]),
        (
            CLIP,
            {"class_name": "CLIPVisionModelWithProjection"},
            {"pixel_values": (1, 3, 16, 16)},
            ["image_embeds"],
        ),
        (SPECTRA, {}, {"input_values": (1, 32, 16)}, ["logits"]),
    ],
)
def test_inputs_are_those_of_what_is_built(untrained, given, options, inputs, outputs):
    model = untrained(given, **options)
    built, sample = model.build(), model.example_inputs()
    names = model.layout.names(built)
    assert {n: tuple(t.shape) for n, t in zip(names, sample, strict=True)} == inputs
    assert list(model.run_named(built, sample))[: len(outputs)] == outputs


def test_a_model_of_images_and_text_needs_both_as_data(untrained, tmp_path):
    """A text for each image, from the start again if there are fewer."""
    folder = tmp_path / "snapshot"
    CLIPImageProcessor(size=16, crop_size=16).save_pretrained(folder)
    words = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", "a", "cat", "dog"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(folder)
    (tmp_path / "images").mkdir()
    for index in range(4):
        pixels = np.full((20, 24, 3), 60 * index, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"images/{index}.png")
    images, text = tmp_path / "images.zip", tmp_path / "text.txt"
    snapshots.pack(tmp_path / "images", images)
    text.write_text("a cat\na dog\n")
    (first, second), labels = untrained(CLIP, data={"images": images, "text": text}).evaluation()
    assert labels is None
    assert [tuple(t.shape) for t in first] == [(1, 12), (1, 12), (1, 3, 16, 16)]
    assert torch.equal(first[0], second[0]), "every second one is for calibration"
    assert not torch.equal(first[2], second[2])
    with pytest.raises(ModelError, match=r"needs text, because CLIPModel takes tokens"):
        untrained(CLIP, data={"images": images}).evaluation()


def test_a_config_without_a_class_names_the_option(untrained):
    both = VisionEncoderDecoderConfig(encoder=CLIP.vision_config.to_dict(), decoder=CLIP.to_dict())
    with pytest.raises(ModelError, match="set the option `class_name`"):
        untrained(both).build()
