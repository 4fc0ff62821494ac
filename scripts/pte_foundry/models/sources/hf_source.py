"""Models of Hugging Face transformers from a snapshot of their repository.

Only classes of transformers itself are used, and only safetensors are read.

weights  the snapshot, as one archive; for random weights it is the data file `snapshot`
data     images: a zip archive of images; folders in it that are called like classes label them
         text: a text file, a sample a line
options  class_name: of transformers; by default the first of the snapshot's `architectures`
         part: `encoder` for that of an encoder-decoder model, or the path of any other module
         sequence_length (64): tokens of a sample; longer ones are cut, shorter ones padded
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoImageProcessor, AutoTokenizer, PretrainedConfig, PreTrainedModel

from pte_foundry.errors import ModelError
from pte_foundry.models.snapshots import unpacked
from pte_foundry.models.sources import samples

Keywords = dict[str, Tensor]


def build(
    data: dict[str, Path],
    weights: Path | None = None,
    class_name: str | None = None,
    part: str | None = None,
) -> nn.Module:
    """Returns the model of the snapshot, or a part of it, without caches."""
    random = data.get("snapshot")
    with unpacked(random or weights, weights=random is None) as folder:
        config = _config(folder)
        kind = _class(config, class_name)
        _switch_caches_off(config)
        if random is not None:
            return _part(kind(config), part).eval()
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
        return _part(model, part).eval()


def example_inputs(
    data: dict[str, Path],
    weights: Path | None = None,
    class_name: str | None = None,
    sequence_length: int = 64,
) -> Keywords:
    """Returns a sample as the snapshot's own preprocessing makes it."""
    with _described(data, weights) as folder:
        config = _config(folder)
        kind = _class(config, class_name)
        match kind.main_input_name:
            case "pixel_values":
                return {"pixel_values": _noise(folder, config)}
            case "input_ids":
                text = "The quick brown fox jumps over the lazy dog."
                return _tokens(folder, config, kind, sequence_length, [text])[0]
            case "input_features":
                length = 2 * config.max_source_positions
                return {"input_features": torch.randn(1, config.num_mel_bins, length)}
            case "input_values" if hasattr(config, "num_mel_bins"):  # a spectrogram
                return {"input_values": torch.randn(1, config.max_length, config.num_mel_bins)}
            case "input_values":
                return {"input_values": torch.randn(1, 16_000)}
    raise ModelError(f"cannot make inputs of {kind.__name__}, a `module` must define them")


@samples.reads("images", "text")
def calibration(
    data: dict[str, Path],
    weights: Path | None = None,
    class_name: str | None = None,
    sequence_length: int = 64,
) -> list[Keywords]:
    """Returns every second sample."""
    found, _ = _samples(data, weights, class_name, sequence_length)
    return found[samples.CALIBRATION]


@samples.reads("images", "text")
def evaluation(
    data: dict[str, Path],
    weights: Path | None = None,
    class_name: str | None = None,
    sequence_length: int = 64,
) -> tuple[list[Keywords], Tensor | None]:
    """Returns the other samples; images with their classes if their folders are called so."""
    found, labels = _samples(data, weights, class_name, sequence_length)
    labels = None if labels is None else torch.tensor(labels)[samples.EVALUATION]
    return found[samples.EVALUATION], labels


def score(outputs: list[Any], labels: Tensor) -> dict[str, float]:
    """Returns the share of images whose class has the largest logit."""
    if outputs[0].get("logits") is None:
        return {"labels": float(len(labels))}
    answers = torch.cat([sample["logits"] for sample in outputs]).argmax(1)
    return {"top1": answers.eq(labels).double().mean().item()}


def described(archive: Path) -> tuple[PretrainedConfig, type[PreTrainedModel]]:
    """Returns the configuration of a packed snapshot, and its class."""
    with unpacked(archive, weights=False) as folder:
        config = _config(folder)
        return config, _class(config, None)


@contextmanager
def _described(data: dict[str, Path], weights: Path | None) -> Iterator[Path]:
    with unpacked(data.get("snapshot") or weights, weights=False) as folder:
        yield folder


def _config(folder: Path) -> PretrainedConfig:
    try:
        # The fused attention of Core ML gives nan in fp16 on some devices (executorch#15833).
        return transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, attn_implementation="eager"
        )
    except Exception as error:  # of any type: each class checks its values
        text = " ".join(str(error).split())[:300]
        raise ModelError(f"cannot read the snapshot's config.json: {text}") from error


def _switch_caches_off(config: PretrainedConfig) -> None:
    """Caches are no tensors. A model of several networks has a configuration of each."""
    config.use_cache = False
    for name in config.sub_configs:
        if isinstance(inner := getattr(config, name, None), PretrainedConfig):
            _switch_caches_off(inner)


def _class(config: PretrainedConfig, name: str | None) -> type[PreTrainedModel]:
    names = [name] if name else [*(config.architectures or ()), "AutoModel"]
    if names[0] == "AutoModel":
        return transformers.MODEL_MAPPING[type(config)]
    kind = getattr(transformers, names[0], None)
    if not isinstance(kind, type) or not issubclass(kind, PreTrainedModel):
        raise ModelError(
            f"found no model {names[0]} in transformers {transformers.__version__}, and code of "
            "the repository is not run; set the option `class_name`, or write a `module`"
        )
    return kind


def _part(model: PreTrainedModel, part: str | None) -> nn.Module:
    if part is None:
        return model
    try:
        return model.get_encoder() if part == "encoder" else model.get_submodule(part)
    except AttributeError as error:
        children = ", ".join(name for name, _ in model.named_children())
        raise ModelError(f"has no part {part!r}; parts: {children}") from error


def _noise(folder: Path, config: PretrainedConfig) -> Tensor:
    """An image of noise, as the snapshot's preprocessing makes it."""
    size = getattr(config, "image_size", None) or 224
    height, width = (size, size) if isinstance(size, int) else size
    noise = torch.rand(height, width, 3)
    processor = _processor(folder)
    if processor is None:
        channels = getattr(config, "num_channels", 3)
        return torch.randn(1, channels, height, width)
    from PIL import Image

    image = Image.fromarray((noise * 255).to(torch.uint8).numpy())
    return processor(images=image, return_tensors="pt")["pixel_values"]


def _processor(folder: Path) -> Any:
    if not (folder / "preprocessor_config.json").is_file():
        return None
    return AutoImageProcessor.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )


def _tokens(
    folder: Path,
    config: PretrainedConfig,
    kind: type[PreTrainedModel],
    length: int,
    texts: list[str],
) -> list[Keywords]:
    """Texts as tokens of a fixed length.

    A causal model gets full windows of the running text, an encoder each text with its padding.
    """
    if not any((folder / name).is_file() for name in ("tokenizer.json", "tokenizer.model")):
        vocabulary = getattr(config.get_text_config(), "vocab_size", 1000)
        return [{"input_ids": torch.randint(0, vocabulary, (1, length), dtype=torch.int32)}]
    tokenizer = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False
    )
    if kind.__name__.endswith(("ForCausalLM", "LMHeadModel")):
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


def _samples(
    data: dict[str, Path], weights: Path | None, class_name: str | None, length: int
) -> tuple[list[Keywords], list[int] | None]:
    with _described(data, weights) as folder:
        config = _config(folder)
        kind = _class(config, class_name)
        if kind.main_input_name == "input_ids":
            if "text" not in data:
                raise ModelError(f"needs text, because {kind.__name__} takes tokens")
            return _tokens(folder, config, kind, length, samples.lines(data["text"])), None
        processor = _processor(folder)
        if "images" not in data or processor is None:
            raise ModelError(
                f"cannot make inputs of {kind.__name__} from this data; images need the snapshot's "
                "preprocessor_config.json, other kinds a `module`"
            )
        found = [
            (name, processor(images=image, return_tensors="pt")["pixel_values"])
            for name, image in samples.images(data["images"])
        ]
        known = {str(name): int(index) for name, index in (config.label2id or {}).items()}
        labels = samples.labels_of([name for name, _ in found], known)
        return [{"pixel_values": pixels} for _, pixels in found], labels
