"""The ``models`` section: what a model is defined by, its weights, its data and its options.

A model is defined by a Python file of the user (``module``), or by one of the library's own, which
has the same functions (``models.sources``): one entry in :data:`ORIGINS` and one file a kind.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import Field, JsonValue, model_validator

from pte_foundry.config.base import Name, Strict
from pte_foundry.config.sources import (
    DataSource,
    DecoderSource,
    FileSources,
    SnapshotSource,
    Source,
    WeightsSource,
)
from pte_foundry.findings import Finding, KeyPath, listed
from pte_foundry.lock import LIBRARY


class Origin(NamedTuple):
    """A kind of model that needs no Python file.

    Attributes:
        weights: whether the config names them; otherwise the origin itself holds them.
        random: whether they can be random.
        data: names of data files that it takes.
        package: that must be installed, and is not in the lock.
    """

    weights: bool
    random: bool
    data: tuple[str, ...] = ()
    package: str | None = None


ORIGINS = {
    "program": Origin(weights=False, random=False),
    "hf": Origin(weights=False, random=True, data=("images", "text")),
    "decoder": Origin(weights=False, random=True, data=("text",)),
    "timm": Origin(weights=True, random=True, data=("images",), package="timm"),
}


def origin_findings(entry: Any, path: KeyPath) -> Iterator[Finding]:
    """Find models that nothing defines, or several things, and weights that nobody reads.

    Args:
        entry: an entry of ``models``, not validated.
        path: its key path.
    """
    if not isinstance(entry, dict):
        return
    allowed = f"one of {', '.join(ORIGINS)}, or module"
    named = [key for key in ORIGINS if entry.get(key) is not None]
    for key in named[1:]:
        problem = f"a model has one origin, and `{named[0]}` is there as well"
        yield Finding((*path, key), problem, allowed, "remove one of them", entry[key])
    if not named and entry.get("module") is None:
        fix = f"add a Python file, or {', '.join(f'`{key}:`' for key in ORIGINS)}"
        yield Finding(
            (*path, "module"),
            "the required key is missing: nothing defines the model",
            allowed,
            fix,
        )
        return
    origin = ORIGINS[named[0]] if named else None
    weights = entry.get("weights")
    random = isinstance(weights, dict) and "random" in weights
    if weights is None and (origin is None or origin.weights):
        description = Model.model_fields["weights"].description.partition(". ")[0]
        fix = f"add `weights:`: {description[0].lower()}{description[1:]}"
        keys = listed(Model.model_fields)
        yield Finding((*path, "weights"), "the required key is missing", f"keys: {keys}", fix)
    elif weights is not None and origin is not None:
        if not origin.weights and not (random and origin.random):
            held = f"`{named[0]}` holds the weights"
            allowed = "{random: SEED}, or no `weights`" if origin.random else "no `weights`"
            yield Finding((*path, "weights"), held, allowed, "remove `weights`", weights)
        elif isinstance(weights, dict) and "train" in weights and entry.get("module") is None:
            problem = "there is no module whose `train()` makes the weights"
            allowed = "a file, a web address, a file in a package, or {random: SEED}"
            yield Finding((*path, "weights"), problem, allowed, "use one of these", weights)


_Shapes = list[list[Annotated[int, Field(ge=1)]]]


class Model(Strict):
    """A network: a Python file, snapshot, decoder, timm architecture or exported program."""

    module: str | None = Field(
        default=None,
        min_length=1,
        description="Path of the Python file that defines the model, relative to the config "
        "file or absolute. Beside another origin (`hf`, `decoder`, `timm`, `program`), its "
        "functions replace those of the origin.",
    )
    program: FileSources | None = Field(
        default=None,
        description="An exported program, as `torch.export.save` writes it (.pt2). No Python code "
        "of its author runs. Recipes that select modules do not apply to it.",
    )
    hf: SnapshotSource | None = Field(
        default=None,
        description="A model of Hugging Face transformers: a local snapshot, one in a package, or "
        "a revision of a repository. Only safetensors are read, and no code of the repository. "
        "Images (`data: {images: …}`, a folder or .zip of images) or a text file (`data: {text: "
        "…}`) are its samples; a model of both, such as CLIP, takes both. Options: `part` "
        "(`encoder`, or the path of a module such as `vision_model`), `class_name`, "
        "`sequence_length`.",
    )
    decoder: DecoderSource | None = Field(
        default=None,
        description="A language model with a cache of keys and values: Llama, SmolLM2, Mistral, "
        "Qwen 2.5 or 3, Gemma 2 or 3. A snapshot as of `hf`, or a GGUF file. Text (`data: {text: "
        "…}`, a file or a folder) is cut into windows for calibration and evaluation. Options: "
        "`cache` (`states`, `inputs` or `none`), `context_length`, `prefill_length`, "
        "`decode_length`, `window_length`, `windows`, `split`, `split_head`.",
    )
    timm: str | None = Field(
        default=None,
        min_length=1,
        description="An architecture of timm, which must be installed. `weights` is a checkpoint "
        "(.safetensors). Options: `num_classes`. Data: `images`, as of `hf`.",
    )
    weights: WeightsSource | None = Field(
        default=None,
        description="Source of the weights: a file, a web address, a file inside an installed "
        "package, `train: true`, or `random: SEED`. `hf`, `decoder` and `program` have weights of "
        "their own.",
    )
    data: dict[Name, DataSource] = Field(
        default={},
        description="Further files (samples, a tokenizer …), passed to the module by name.",
    )
    options: dict[str, JsonValue] = Field(
        default={},
        description="Passed to the module's functions by name: each function gets the options "
        "that it has a parameter for.",
    )
    enumerated_shapes: dict[str, _Shapes | dict[str, _Shapes]] | None = Field(
        default=None,
        description="The shapes that inputs with a dynamic shape may have, by the input's name: "
        "`input_ids: [[1, 1], [1, 64]]`; of a model with several methods by method and input. The "
        "n-th shapes of all inputs belong together. The target's `shapes` decides whether they or "
        "the ranges of `dynamic_shapes()` count. Inputs must be int32 or float32.",
    )
    description: str | None = Field(
        default=None,
        description="What the model does, for the page. Without it, the first paragraph of the "
        "module's docstring.",
    )
    license: str | None = Field(
        default=None, description="The licence of the weights, for the page."
    )
    imports: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None,
        description="What the module imports in ways that its text does not show, such as "
        "`importlib.import_module(name)`: names of modules and packages, and paths with a `/` of "
        "files and folders, relative to the config file. All other imports are followed without "
        "it, and a change of what they lead to rebuilds the model. Without the key, imports that "
        "cannot be followed are errors; `[]` declares that they lead to locked packages only.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        """Weights and data as all models have them: what the origin holds is one of them."""
        held = self.held
        if held is not None and self.weights is None:
            self.__dict__["weights"] = held
        elif held is not None and held is not self.weights:
            self.__dict__["data"] = {**self.data, SNAPSHOT: held}
        return self

    @property
    def held(self) -> Source | None:
        """The source of an origin that has weights of its own."""
        return self.program or self.hf or self.decoder

    @property
    def origin(self) -> str | None:
        """The key of ``ORIGINS``, if the model has one."""
        return next((name for name in ORIGINS if getattr(self, name) is not None), None)

    def source(self, name: str) -> Source:
        """Return the source of the weights, or of a data file, by name."""
        return self.weights if name == "weights" else self.data[name]


SNAPSHOT = "snapshot"
"""Name of the data file that a snapshot is, if its weights are not used."""


def origin_file(origin: str) -> Path:
    """Return the library's file with the functions of a kind of model."""
    return LIBRARY / "models" / "sources" / f"{origin}_source.py"
