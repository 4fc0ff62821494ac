"""``pte-foundry new``: writes a new model's config entry, and its Python file if it needs one."""

from __future__ import annotations

import argparse
import logging
import os
import shlex
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pte_foundry.cli.console import console, print_facts
from pte_foundry.cli.new_models import SOURCES, Found, Place
from pte_foundry.config.base import Name
from pte_foundry.config.check_builds import every_combination
from pte_foundry.config.config import check
from pte_foundry.config.insert import Entry, inserted, read, with_extends
from pte_foundry.config.layers import DEFAULT, EXTENDS, Layers, clone_of, extends_default, layered
from pte_foundry.config.parse import Parsed
from pte_foundry.errors import ConfigError, InputError
from pte_foundry.files import replacing
from pte_foundry.findings import Finding, did_you_mean, listed, raise_for
from pte_foundry.lock import LIBRARY

DESCRIPTION = """\
Writes what a model needs to be built: an entry in a config file, a build, and a
commented Python file if neither transformers nor timm has the model. A new
config gets recipes and a target; in an existing one, all else stays as it is.
No file and no entry is overwritten."""
EXAMPLES = """\
  pte-foundry new net                          # with a Python file to fill in
  pte-foundry new vit --from hf:google/vit-base-patch16-224
  pte-foundry new vit --from hf:snapshots/vit  # a folder
  pte-foundry new tagger --from timm:levit_128 --weights best.safetensors
  pte-foundry new own --from program:own.pt2 --config config/team.yaml
"""
EXIT_CODES = {0: "the model can be built", 1: "nothing was written; the message says why"}

TEMPLATE = Path(__file__).parent / "templates" / "config.yaml"
_PREFERRED = ("fp16", "ios18")
"""Of several recipes or targets for the first build, these names come first."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="name of the model, and of its files")
    parser.add_argument(
        "--from",
        dest="source",
        metavar="SOURCE",
        default="module",
        help="hf:OWNER/NAME[@REVISION], hf:FOLDER, timm:ARCHITECTURE, program:FILE.pt2, or module "
        "(the default): a Python file to fill in",
    )
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="a file or a web address of weights (.safetensors), of timm or module",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="CONFIG",
        help="the config file (config/mine.yaml if there is a folder config, or else mine.yaml)",
    )


def run(arguments: argparse.Namespace) -> int:
    path = arguments.config or Path("config" if Path("config").is_dir() else "", "mine.yaml")
    _check_name(arguments.name)
    kind, _, given = arguments.source.partition(":")
    if kind not in SOURCES or bool(given) != (kind != "module"):
        allowed = "hf:OWNER/NAME, hf:FOLDER, timm:ARCHITECTURE, program:FILE.pt2, module"
        hint = did_you_mean(kind, SOURCES, f"allowed: {allowed}")
        raise InputError(f"--from {arguments.source}: no such source; {hint}")
    place = Place(arguments.name, path, arguments.weights)
    try:
        text = path.read_bytes().decode("utf-8") if path.exists() else None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it is not YAML: {error}") from error
    _check_free(place, text, kind == "module")
    logging.disable(logging.WARNING)  # of libraries, about what is not used here
    found = SOURCES[kind](given, place)
    written = _write(place, found, text)
    _tell(place, found, written, text is None)
    return 0


def _check_name(name: str) -> None:
    try:
        TypeAdapter(Name).validate_python(name)
    except ValidationError as error:
        (details,) = error.errors()
        parts = {key: details["ctx"][key] for key in ("problem", "allowed", "fix")}
        raise ConfigError(str(Finding(("models", name), **parts, value=name))) from None


def _check_free(place: Place, text: str | None, with_file: bool) -> None:
    """Refuses a name that the config has, or a file, if one is to be written."""
    start = TEMPLATE.read_text(encoding="utf-8") if text is None else text
    layers = _layers(place.config, start, place.config)
    models = layers.data.get("models") if isinstance(layers.data, dict) else None
    for name in models if isinstance(models, dict) else ():
        if str(name).lower() == place.name.lower():
            finding = Finding(
                ("models", name),
                "this model is there already",
                "a name that no model has, also in another case",
                "choose another name, or edit the entry",
            )
            raise ConfigError(str(layers.located(finding)))
    if with_file and place.module.exists():
        raise InputError(
            f"{place.module} is there already, and is not overwritten; choose another name, or "
            f"write an entry for it into {place.config}"
        )


def _layers(path: Path, text: str, file: Path) -> Layers:
    """The config with what it extends.

    Args:
        path: the config file.
        text: its content.
        file: where this content is.
    """
    try:
        data = read(text)
        data = {} if data is None else data  # an empty file is a config, over the default one
        files = [file.absolute()] if file.exists() else []
        return layered(data, files, clone_of(Path.cwd()), others=[path.parent.absolute()])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _write(place: Place, found: Found, before: str | None) -> Entry | None:
    """Writes the config and the model's file; returns the build, None if it has one already."""
    path = place.config
    start = TEMPLATE.read_text(encoding="utf-8") if before is None else before
    known = set() if before is None else {f.path for f in check(_layers(path, before, path))[1]}
    made: list[Path] = []
    try:
        if found.module is not None:
            made = [folder for folder in (place.module.parent,) if not folder.exists()]
            place.module.parent.mkdir(parents=True, exist_ok=True)
            with place.module.open("x", encoding="utf-8") as file:
                made.insert(0, place.module)
                file.write(found.module)
        with replacing(path, keep_mode=True) as temporary:
            entry = _extended(place, found, start, temporary, known)
            if before is None and path.exists():
                raise InputError(f"{path} was written by somebody else meanwhile; try again")
    except BaseException:
        for each in made:
            each.unlink() if each.is_file() else each.rmdir()
        raise
    return entry


def _extended(
    place: Place, found: Found, start: str, temporary: Path, known: set[tuple]
) -> Entry | None:
    """Writes the config with the model and a build to a temporary file in the same folder."""
    path = place.config

    def findings(text: str) -> tuple[Parsed, Layers, list[Finding]]:
        temporary.write_bytes(text.encode("utf-8"))
        layers = _layers(path, text, temporary)
        parsed, wrong = check(layers)
        return parsed, layers, [each for each in wrong if each.path not in known]

    try:
        text = inserted(start, "models", place.name, found.entry)
        text = _still_extending(start, text)
        parsed, layers, wrong = findings(text)
        wrong = [each for each in wrong if each.path != ("builds",)]  # a new config has none yet
        if wrong or _is_built(parsed, place.name):
            raise_for(wrong)
            return None
        inherited = [] if read(text).get("builds") else layers.data.get("builds") or []
        for build in inherited:
            text = inserted(text, "builds", None, Entry(build))
        for recipe, target in _pairs(parsed):
            entry = Entry({"models": [place.name], "recipes": [recipe], "targets": [target]})
            made = _still_extending(start, inserted(text, "builds", None, entry))
            wrong = findings(made)[2]
            if not wrong:
                return entry
        raise_for(wrong)
        raise ConfigError(f"{path} has no recipe and target to build the model with; add some")
    except ConfigError as error:
        shown = str(error).replace(temporary.name, path.name)
        raise ConfigError(f"{path} stays as it is.\n{shown}") from error


def _still_extending(before: str, after: str) -> str:
    """A config that lacks a section extends the default one, which it must go on doing."""
    old, new = read(before) or {}, read(after)
    if EXTENDS in new or extends_default(new) or not extends_default(old):
        return after
    return with_extends(after, DEFAULT, "as before: it was incomplete")


def _is_built(parsed: Parsed, model: str) -> bool:
    return any(one.model == model for one in every_combination(parsed))


def _pairs(parsed: Parsed) -> Iterator[tuple[str, str]]:
    """Recipes and targets for a first build: without compression in fp16, and as others have it."""
    document = parsed.document
    used = {(one.recipe, one.target) for one in every_combination(parsed)}

    def rank(pair: tuple[str, str]) -> tuple[bool, ...]:
        recipe, target = pair
        return (
            document.recipes[recipe].scheme != "none",
            document.targets[target].compute_precision != "float16",
            recipe != _PREFERRED[0],
            pair not in used,
            target != _PREFERRED[1],
        )

    yield from sorted(product(document.recipes, document.targets), key=rank)


def _tell(place: Place, found: Found, build: Entry | None, new: bool) -> None:
    output, path = console(), place.config
    print_facts(output, found.facts)
    lines = []
    if found.module is not None:
        lines.append(f"wrote {place.module}: a network to replace, and what else it may define")
    if new:
        data = read(path.read_text(encoding="utf-8"))
        recipes, targets = listed(data["recipes"]), listed(data["targets"])
        lines.append(f"wrote {path}: recipes {recipes}; target {targets}")
    else:
        lines.append(f"added {place.name} to {path}")
    after = " && pte-foundry table"
    if build is None:
        lines.append('its builds are those of all models: `models: "*"`')
    elif not new:
        (recipe,), (target,) = build.value["recipes"], build.value["targets"]
        after = f" -- results/pte/{place.name}/{recipe}/{target}.pte"
    config = shlex.quote(str(path))
    lines += ["", "Next:", f"  pte-foundry check {config}"]
    lines.append(f"  snakemake{_rules()} --cores all --configfile {config}{after}")
    for line in lines:
        output.print(line, soft_wrap=True)  # commands must stay on one line


def _rules() -> str:
    """The option for Snakemake that names the rules; empty in a clone."""
    if Path("Snakefile").exists() and clone_of(Path.cwd()) == Path.cwd():
        return ""
    clone = LIBRARY.parents[1]
    if not (clone / "Snakefile").is_file():
        return " -s CLONE/Snakefile"
    near = os.path.relpath(clone / "Snakefile")
    return f" -s {shlex.quote(min(near, str(clone / 'Snakefile'), key=len))}"
