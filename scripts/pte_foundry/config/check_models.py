"""Checks of the models: their Python files, read but not run, and their sources."""

import keyword
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pte_foundry.config.interface import FUNCTIONS, read_interface
from pte_foundry.config.models import FileSource, Model, PackageSource, TrainSource
from pte_foundry.config.packages import check_packaged
from pte_foundry.config.parse import Parsed
from pte_foundry.config.recipes import Pt2eRecipe
from pte_foundry.errors import ConfigError
from pte_foundry.findings import Finding, did_you_mean, listed

_ALWAYS = ("build", "example_inputs", "evaluation")
_PURPOSE = {
    "build": "makes the network",
    "example_inputs": "gives the inputs to export with",
    "evaluation": "gives the samples to validate with",
    "calibration": "gives the samples that PT2E recipes calibrate with",
    "train": "makes the weights, as `weights: {train: true}` asks",
}


def check_models(parsed: Parsed, root: Path) -> Iterator[Finding]:
    """Check every model's module, sources and options."""
    for name, model in parsed.models.items():
        path = ("models", name)
        yield from _check_options(path, model)
        yield from _check_module(path, model, root, _needed(parsed, name, model))
        sources = {("weights",): model.weights}
        sources |= {("data", key): source for key, source in model.data.items()}
        for below, source in sources.items():
            yield from _check_source((*path, *below), source, root)
        if "weights" in model.data:
            fix = "rename it: `weights` is the name of the weights themselves"
            yield Finding((*path, "data", "weights"), "the name is taken", "another name", fix)


def _needed(parsed: Parsed, name: str, model: Model) -> list[str]:
    """Return the functions that the module must have for what is built from it."""
    needed = list(_ALWAYS)
    if any(
        isinstance(parsed.recipes.get(recipe), Pt2eRecipe)
        for entry in parsed.builds.values()
        if entry.models == "*" or name in entry.models
        for recipe in (parsed.recipes if entry.recipes == "*" else entry.recipes)
    ):
        needed.append("calibration")
    if isinstance(model.weights, TrainSource):
        needed.append("train")
    return needed


def _check_module(path: tuple, model: Model, root: Path, needed: list[str]) -> Iterator[Finding]:
    key, file = (*path, "module"), root / model.module
    allowed = f"a Python file that defines {listed(needed)}"
    try:
        interface = read_interface(file)
    except OSError as error:
        fix = _near_files(file)
        yield Finding(key, f"cannot be read: {error.strerror}", allowed, fix, model.module)
        return
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        problem = f"is not Python: {getattr(error, 'msg', error)}{line}"
        yield Finding(key, problem, allowed, "mend the file", model.module)
        return
    for function in needed:
        if function not in interface.functions:
            problem = f"defines no `{function}`, which {_PURPOSE[function]}"
            fix = f"add `def {function}(…)`, as config/models/*.py do"
            yield Finding(key, problem, allowed, fix, model.module)
    for name in sorted(interface.data - set(model.data)):
        fix = f"add `{name}:` under `data:`"
        problem = "the module reads this data file, and the config does not give it"
        yield Finding((*path, "data", name), problem, "a file, url or package source", fix)
    taken = interface.options_of(FUNCTIONS)
    known = None if taken is None else sorted(taken)
    for option in model.options if known is not None else ():
        if option not in known:
            problem = "no function of the module takes an option of this name"
            fix = did_you_mean(option, known, "remove it, or add the parameter")
            value = model.options[option]
            yield Finding((*path, "options", option), problem, listed(known), fix, value)


def _near_files(file: Path) -> str:
    siblings = sorted(p.name for p in file.parent.glob("*.py")) if file.parent.is_dir() else []
    return did_you_mean(file.name, siblings, "check the path; it is relative to the project")


def _check_options(path: tuple, model: Model) -> Iterator[Finding]:
    for option, value in model.options.items():
        key = (*path, "options", option)
        if not option.isidentifier() or keyword.iskeyword(option):
            fix = "use letters, digits and `_`"
            yield Finding(key, "cannot be a parameter's name", "a Python identifier", fix, value)
        if not _finite(value):
            fix = "write it as text, or leave it out"
            yield Finding(key, "JSON has no nan and no infinity", "finite numbers", fix, value)


def _finite(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)


def _check_source(path: tuple, source: Any, root: Path) -> Iterator[Finding]:
    if isinstance(source, FileSource) and not (root / source.file).is_file():
        fix = "check the path; it is relative to the project"
        yield Finding(
            (*path, "file"), "there is no such file", "an existing file", fix, source.file
        )
    if isinstance(source, PackageSource):
        try:
            check_packaged(source.package, source.file)
        except ConfigError as error:
            problem, _, fix = str(error).partition("; ")
            value = f"{source.package}: {source.file}"
            allowed = "a file of an installed package"
            yield Finding((*path, "file"), problem, allowed, fix, value)
