"""What ``pte-foundry new`` writes about a model, by what it is made from.

To add a source: a function, and an entry in :data:`SOURCES`.
"""

from __future__ import annotations

import importlib.util
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from pte_foundry.cli.pin import digest
from pte_foundry.config.insert import Entry
from pte_foundry.config.source_values import COMMIT, REPOSITORY
from pte_foundry.errors import FoundryError, InputError
from pte_foundry.packages import how_to_install

if TYPE_CHECKING:
    from pte_foundry.models.first_look import Look

TEMPLATE = Path(__file__).parent / "templates" / "model.py"
UNTRAINED = {"random": 0}
_TRY = "random weights, to try the architecture"
_PART = (
    "the encoder only: a decoder also needs the tokens generated so far; write a `module` for it"
)


@dataclass(frozen=True)
class Found:
    """A model's entry in the config, and what is told about it.

    Attributes:
        entry: the entry.
        facts: lines to print, by what they are about.
        module: the text of the model's Python file, if it needs one.
    """

    entry: Entry
    facts: Mapping[str, str] = field(default_factory=dict)
    module: str | None = None


class Place(NamedTuple):
    """Where a model is to be written to.

    Attributes:
        name: of the model.
        config: the config file.
        weights: a file or a web address of weights, if one is given.
        endpoint: of the Hugging Face Hub; None: its own.
    """

    name: str
    config: Path
    weights: str | None = None
    endpoint: str | None = None

    @property
    def module(self) -> Path:
        """The model's Python file, if it gets one."""
        return self.config.parent / "models" / f"{self.name}.py"

    def relative(self, path: Path) -> str:
        """A path as the config has it."""
        return Path(os.path.relpath(path, self.config.parent)).as_posix()


def module(_given: str, place: Place) -> Found:
    """A Python file of the user: a template that builds as it is."""
    text = TEMPLATE.read_text(encoding="utf-8").replace("MODEL", place.name, 1)
    note = "untrained; later {file: …}, to which `pte-foundry pin` adds the sha256"
    weights, comment = (_pinned(place), "") if place.weights else (UNTRAINED, note)
    value = {"module": place.relative(place.module), "weights": weights}
    return Found(Entry(value, {"weights": comment}), module=text)


def program(given: str, place: Place) -> Found:
    """An exported program."""
    _refuse_weights(place, "an exported program holds its weights")
    return Found(Entry({"program": _file(given, place)}))


def hf(given: str, place: Place) -> Found:
    """A snapshot of a model of transformers: a folder on this machine, or a repository."""
    _refuse_weights(place, "a snapshot holds its weights")
    from pte_foundry.models import first_look, snapshots

    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder, "snapshot.zip")
        if Path(given).is_dir():
            if not (Path(given) / snapshots.CONFIG).is_file():
                raise InputError(
                    f"{given}: there is no {snapshots.CONFIG} in this folder; give a snapshot of a "
                    "repository, or what `model.save_pretrained(FOLDER)` writes"
                )
            source: dict[str, Any] = {"folder": place.relative(Path(given))}
            weights, license = snapshots.has_weights(snapshots.files_of(Path(given))), None
            snapshots.pack(Path(given), archive, weights=False)
        else:
            found = _repository(given, place)
            source, weights, license = found.source, found.weights, found.license
            repo, commit = source["repo"], source["revision"]
            if found.unseen:
                return Found(Entry({"hf": source}), {"not looked at": found.unseen})
            snapshots.download(repo, commit, archive, place.endpoint, weights=False)
        with _looking(f"hf:{given}", place):
            look = first_look.snapshot(archive)
    value: dict[str, Any] = {"hf": source}
    comments = {}
    if not weights:
        value["weights"] = UNTRAINED
        comments["weights"] = f"{_TRY}: the snapshot has none (model*.safetensors)"
    return _looked_at(look, value, comments, license)


def timm(given: str, place: Place) -> Found:
    """An architecture of timm, with its published checkpoint if that can be had."""
    if importlib.util.find_spec("timm") is None:
        raise InputError(f"timm is not installed in this environment; {how_to_install('timm')}")
    from pte_foundry.models import first_look

    with _looking(f"timm:{given}", place):
        look = first_look.architecture(given)
    value: dict[str, Any] = {"timm": given}
    if place.weights:
        return _looked_at(look, value | {"weights": _pinned(place)}, {}, None)
    try:
        return _looked_at(look, value | {"weights": _checkpoint(look, place)}, {}, look.license)
    except FoundryError as error:
        text = str(error).partition(". ")[0]
        why = {"weights": f"{_TRY}; --weights FILE takes a checkpoint (.safetensors)"}
        found = _looked_at(look, value | {"weights": UNTRAINED}, why, None)
        return Found(found.entry, {**found.facts, "weights": f"random, because {text}"})


SOURCES: dict[str, Callable[[str, Place], Found]] = {
    "module": module,
    "hf": hf,
    "timm": timm,
    "program": program,
}


@contextmanager
def _looking(source: str, place: Place) -> Iterator[None]:
    """Tells errors of looking at a model, which libraries may raise of any type."""
    try:
        yield
    except Exception as error:
        told = str(error) if isinstance(error, FoundryError) else f"{type(error).__name__}: {error}"
        text = " ".join(told.split())[:500].rstrip(".")
        fix = f"Or write a Python file for it: pte-foundry new {place.name} --from module"
        raise InputError(f"{source}: {text}. {fix}") from error


def _looked_at(
    look: Look, value: dict[str, Any], comments: dict[str, str], license: str | None
) -> Found:
    if license:
        value["license"] = license
    if look.options:
        value["options"] = dict(look.options)
        comments = comments | {"options": _PART if "part" in look.options else ""}
    files = {"images": "images: {folder: …}", "text": "text: {file: …, sha256: …}"}
    named = ", ".join(files[name] for name in look.reads)
    lines = [f"data: {{{named}}}  # samples; see config/README.md"] if named else []
    facts = {"model": ", ".join(filter(None, (look.kind, look.task)))}
    facts |= {f"input {name}": text for name, text in look.inputs.items()}
    facts |= {f"output {name}": text for name, text in look.outputs.items()}
    facts |= {f"option {name}": str(given) for name, given in look.options.items()}
    facts["samples"] = "synthetic ones, until the config names data"
    return Found(Entry(value, comments, str(look), lines), facts)


class _Repository(NamedTuple):
    """A pinned revision of a repository, whether it has weights, and their licence.

    ``unseen`` is why the repository could not be asked; its commit is known all the same.
    """

    source: dict[str, str]
    weights: bool = True
    license: str | None = None
    unseen: str = ""


def _repository(given: str, place: Place) -> _Repository:
    from pte_foundry.models.snapshots import has_weights

    repo, _, revision = given.partition("@")
    if not re.fullmatch(REPOSITORY, repo):
        raise InputError(
            f"hf:{given}: there is no such folder, and this is not the name of a repository; "
            "allowed: OWNER/NAME, OWNER/NAME@REVISION, or the path of a folder"
        )
    try:
        found = _asked(repo, revision or None, place.endpoint)
    except InputError as error:
        if not re.fullmatch(COMMIT, revision):
            raise
        return _Repository(
            {"repo": repo, "revision": revision}, unseen=str(error).partition(". ")[0]
        )
    weights = has_weights(each.rfilename for each in found.siblings or ())
    license = getattr(found.card_data, "license", None)
    return _Repository({"repo": repo, "revision": found.sha}, weights, license)


def _asked(repo: str, revision: str | None, endpoint: str | None) -> Any:
    """What the Hub tells about a revision of a repository: commit, files, licence."""
    from huggingface_hub import HfApi

    try:
        return HfApi(endpoint=endpoint).model_info(repo, revision=revision)
    except Exception as error:
        text = " ".join(str(error).split())
        at = f"{repo}@{revision}" if revision else repo
        raise InputError(
            f"{at} cannot be looked up ({type(error).__name__}: {text}). Check the name and the "
            "network (a private repository needs HF_TOKEN), or download it and give the folder: "
            f"hf download {repo} --local-dir FOLDER"
        ) from error


def _checkpoint(look: Look, place: Place) -> dict[str, Any]:
    """The published checkpoint of an architecture, pinned; InputError if it cannot be had."""
    if not look.checkpoint:
        raise InputError("timm publishes no checkpoint of it")
    commit = _asked(look.checkpoint, None, place.endpoint).sha
    from huggingface_hub import hf_hub_url

    url = hf_hub_url(look.checkpoint, "model.safetensors", revision=commit, endpoint=place.endpoint)
    return {"url": url, "sha256": digest({"url": url}, Path())}


def _pinned(place: Place) -> dict[str, Any]:
    """The source of the weights that are given."""
    given = str(place.weights)
    if re.match("https?://", given):
        return {"url": given, "sha256": digest({"url": given}, Path())}
    return _file(given, place)


def _file(given: str, place: Place) -> dict[str, str]:
    """The source of a file on this machine."""
    if not Path(given).is_file():
        raise InputError(f"{given}: there is no such file")
    found = digest({"file": given}, Path())  # the folder of the config may not exist yet
    return {"file": place.relative(Path(given)), "sha256": found}


def _refuse_weights(place: Place, why: str) -> None:
    if place.weights:
        raise InputError(f"--weights: {why}; leave it out")
