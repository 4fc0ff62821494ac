"""Checks of the models: their Python files, which are parsed but not run, and their sources."""

import importlib.util
import keyword
import math
import os
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from pte_foundry.config.check_builds import every_combination
from pte_foundry.config.interface import FUNCTIONS, interface_of
from pte_foundry.config.layers import Layers
from pte_foundry.config.models import ORIGINS, SNAPSHOT, Model, origin_file
from pte_foundry.config.parse import Parsed
from pte_foundry.config.sources import Source
from pte_foundry.findings import Finding, KeyPath, did_you_mean, listed
from pte_foundry.models.imports import follow
from pte_foundry.packages import how_to_install

_ALWAYS = ("build", "example_inputs")
_PURPOSE = {
    "build": "returns the network",
    "example_inputs": "returns the inputs to export with",
    "train": "returns the weights, for `weights: {train: true}`",
}


def check_models(
    parsed: Parsed, layers: Layers, only: Collection[str] | None = None
) -> Iterator[Finding]:
    """Check the module, the sources and the options of models.

    Args:
        parsed: the configuration.
        layers: its files.
        only: names of models; None: those that are built.
    """
    built = {one.model for one in every_combination(parsed)}
    for name, model in parsed.document.models.items():
        if name not in (built if only is None else only):
            continue
        path = ("models", name)
        file, project = module_of(layers, name, model)
        yield from _check_options(path, model)
        files, needed = files_of(layers, name, model), [*_ALWAYS, *model.weights.made_by]
        yield from _check_module(path, model, files, needed)
        if model.module:
            declared = declared_imports(layers, name, model)
            yield from _check_imports(path, model, file, project, declared)
        yield from _check_origin(path, model)
        for key, source in (("weights", model.weights), *model.data.items()):
            where = source_key(name, key, model)
            yield from source.findings(where, folder_of_source(layers, where, source))


def module_of(layers: Layers, name: str, model: Model) -> tuple[Path, Path]:
    """Return the file of a model's module, the library's own if it has none, and the project's
    folder."""
    if model.module is None:
        return origin_file(model.origin), layers.root
    key = ("models", name, "module")
    return layers.folder(key, model.module) / model.module, layers.project(key, model.module)


def files_of(layers: Layers, name: str, model: Model) -> list[Path]:
    """Return all Python files that have functions of a model; the first one decides."""
    own = [module_of(layers, name, model)[0]] if model.module else []
    return [*own, *([origin_file(model.origin)] if model.origin else [])]


def source_key(name: str, source: str, model: Model) -> KeyPath:
    """Return the key path of a model's weights, or of one of its data files."""
    held = model.held  # it is one of them, and the config has it elsewhere
    if held is not None and model.source(source) is held:
        return ("models", name, model.origin)
    return ("models", name, *(("weights",) if source == "weights" else ("data", source)))


def folder_of_source(layers: Layers, key: KeyPath, source: Source) -> Path:
    """Return the folder that the path of a source is relative to."""
    path = getattr(source, source.path_key or "", None)
    return layers.root if path is None else layers.folder((*key, source.path_key), path)


def declared_imports(layers: Layers, name: str, model: Model) -> list[str] | None:
    """Return a model's ``imports``, with paths relative to its project's folder."""
    if model.imports is None:
        return None
    key, (_, project) = ("models", name, "imports"), module_of(layers, name, model)
    return [
        os.path.relpath(layers.folder(key, each) / each, project) + "/" * each.endswith("/")
        if ("/" in each or each.endswith(".py")) and not os.path.isabs(each)
        else each
        for each in model.imports
    ]


def _check_module(
    path: tuple, model: Model, files: list[Path], needed: list[str]
) -> Iterator[Finding]:
    key, file = (*path, "module"), files[0]
    allowed = f"a Python file that defines {listed(needed)}"
    try:
        interface = interface_of(files)
    except OSError as error:
        fix = _near_files(file)
        yield Finding(key, f"the file cannot be read: {error.strerror}", allowed, fix, model.module)
        return
    except (SyntaxError, ValueError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        problem = f"the file is not valid Python: {getattr(error, 'msg', error)}{line}"
        yield Finding(key, problem, allowed, "fix the syntax error", model.module)
        return
    shows = "methods" in interface.functions and "example_inputs" not in interface.functions
    for function in needed:
        if function not in interface.functions and not (shows and function == "example_inputs"):
            problem = f"the module defines no `{function}`, which {_PURPOSE[function]}"
            fix = f"add `def {function}(…)`, as in config/models/*.py"
            yield Finding(key, problem, allowed, fix, model.module)
    for name in sorted(interface.data - set(model.data)):
        fix = f"add `{name}:` under `data:`"
        problem = "the module reads this data file, but the config does not define it"
        yield Finding((*path, "data", name), problem, "a file, url or package source", fix)
    taken = interface.options_of(FUNCTIONS)
    known = None if taken is None else sorted(taken)
    for option in model.options if known is not None else ():
        if option not in known:
            problem = "no function of the module has a parameter of this name"
            fix = did_you_mean(option, known, "remove it, or add the parameter")
            value = model.options[option]
            yield Finding((*path, "options", option), problem, listed(known), fix, value)


def _check_origin(path: tuple, model: Model) -> Iterator[Finding]:
    """Find what the library's own definition of a model cannot use, or does not find."""
    if model.origin is None:
        return
    origin = ORIGINS[model.origin]
    if origin.package and importlib.util.find_spec(origin.package) is None:
        problem = f"the package {origin.package} is not installed"
        fix = how_to_install(origin.package)
        yield Finding((*path, model.origin), problem, "an installed package", fix)
    for name in model.data if model.module is None else ():
        if name not in (*origin.data, SNAPSHOT):
            fix = did_you_mean(name, origin.data, "remove it, or read it in a `module`")
            problem = f"a model of `{model.origin}` reads no such data file"
            yield Finding((*path, "data", name), problem, listed(origin.data), fix)


def _check_imports(
    path: tuple, model: Model, file: Path, project: Path, declared: list[str] | None
) -> Iterator[Finding]:
    """Find imports that nothing can follow without running the code, and wrong declarations."""
    imports = follow(file, project, declared)
    for problem in imports.problems:
        allowed = "imports by names that are written down, so that changes of their files are seen"
        fix = (
            "import it by its name (files beside the module and in the project are found), or name "
            "what it may lead to in the model's `imports:`, with [] if only locked packages"
        )
        yield Finding((*path, "module"), problem, allowed, fix, model.module)
    for name in imports.missing:
        problem, allowed = "there is no such module, file or folder", "MODULE.NAME or FOLDER/FILE"
        fix = "check the name; paths have a / or end in .py, and are relative to the config file"
        yield Finding((*path, "imports"), problem, allowed, fix, name)


def _near_files(file: Path) -> str:
    siblings = sorted(p.name for p in file.parent.glob("*.py")) if file.parent.is_dir() else []
    return did_you_mean(
        file.name, siblings, f"check the path; there is no {os.path.normpath(file)}"
    )


def _check_options(path: tuple, model: Model) -> Iterator[Finding]:
    for option, value in model.options.items():
        key = (*path, "options", option)
        if not option.isidentifier() or keyword.iskeyword(option):
            problem, fix = "the name is not valid for a parameter", "use letters, digits and `_`"
            yield Finding(key, problem, "a Python identifier", fix, value)
        if not _finite(value):
            fix = "quote it, or leave it out"
            yield Finding(key, "JSON has no nan and no infinity", "finite numbers", fix, value)


def _finite(value: Any) -> bool:
    if isinstance(value, dict | list):
        return all(map(_finite, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, float) or math.isfinite(value)
