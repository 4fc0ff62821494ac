# The configuration, and what the rules ask of it. A step is named by its rule, `scripts/<step>` is
# its code. Its `code` parameter changes with the meaning of its sources and with the lock file, its
# `slice` parameter is what it reads of the configuration: these two decide about rebuilding. The
# sources are listed as inputs for all to see, but `ancient`: touching a file is not a change.
import hashlib
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(workflow.basedir).resolve()
sys.path.insert(0, str(ROOT))

from scripts.config.config import Config, slice_json
from scripts.errors import FoundryError
from scripts.sources import closure, digest

LOCK = ROOT / "envs/requirements.lock"

try:
    CONFIG = Config.parse(config, [Path(file) for file in workflow.configfiles], ROOT)
except FoundryError as error:
    raise WorkflowError(str(error)) from None

MODELS = sorted({build.model for build in CONFIG.builds})
DEVICES = sorted(CONFIG.devices)

# Steps import `scripts` from here, wherever they run, and nothing from the folder they run in.
shell.prefix(f"set -euo pipefail; export PYTHONPATH='{ROOT}' PYTHONSAFEPATH=1; ")


wildcard_constraints:
    model="|".join(map(re.escape, CONFIG.models)),
    recipe="|".join(map(re.escape, CONFIG.recipes)),
    target="|".join(map(re.escape, CONFIG.targets)),
    device="|".join(map(re.escape, DEVICES)),
    name=r"[A-Za-z0-9_.-]+",
    file=r"[^/]+",
    key=r"[a-z0-9-]+",


def artifacts():
    return [f"results/pte/{b.model}/{b.recipe}/{b.target}.pte" for b in CONFIG.builds]


def validations():
    return [
        f"results/validation/{b.model}/{b.recipe}/{b.target}/{device}.json"
        for b in CONFIG.builds
        for device in DEVICES
    ]


def seen_from_here(path):
    """Relative, so that a project that moves with its results is not rebuilt."""
    return os.path.relpath(path)


def sources(step):
    files = [*closure(step, ROOT), LOCK]
    return ancient([seen_from_here(file) for file in files])


def code(step):
    return digest(closure(step, ROOT), LOCK, ROOT)


def module_file(wildcards):
    return ancient(seen_from_here(ROOT / CONFIG.models[wildcards.model].module))


def model_code(step):
    """The step's code and the model's, as a function of the wildcards."""

    def of(wildcards):
        model_file = ROOT / CONFIG.models[wildcards.model].module
        return digest([*closure(step, ROOT), model_file], LOCK, ROOT)

    return of


def slice_of(step, *names):
    """What the step reads of the configuration about the wildcards ``names``, as canonical JSON."""

    def of(wildcards):
        return slice_json(CONFIG.slice(step, **{name: wildcards[name] for name in names}))

    return of


def fetched(model, name, source):
    return f"results/fetch/{model}/{name}/{source.filename}"


def weights_file(wildcards):
    weights = CONFIG.models[wildcards.model].weights
    if weights.kind == "train":
        return f"results/train/{wildcards.model}.safetensors"
    return fetched(wildcards.model, "weights", weights)


def data_files(wildcards):
    data = CONFIG.models[wildcards.model].data
    return [fetched(wildcards.model, name, data[name]) for name in sorted(data)]


def data_assignments(wildcards, input):
    """The data files as the NAME=PATH that steps take."""
    names = sorted(CONFIG.models[wildcards.model].data)
    return [f"{name}={path}" for name, path in zip(names, input.data, strict=True)]


def scaled(amount):
    """A resource that grows when a job is tried again."""

    def of(wildcards, attempt):
        return amount * attempt

    return of
