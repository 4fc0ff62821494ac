# The configuration, and what the rules ask of it. A step is named by its rule, `scripts/<step>` is
# its code. Its `code` parameter changes with the meaning of its sources and with the lock file, its
# `slice` parameter is what it reads of the configuration: these two decide about rebuilding.
import os
import re
import sys
from functools import cache
from pathlib import Path
from types import SimpleNamespace

ROOT = Path(workflow.basedir).resolve()
sys.path.insert(0, str(ROOT))

from scripts import plans
from scripts.config.config import Config
from scripts.config.slices import slice_json
from scripts.errors import FoundryError
from scripts.sources import entry
from scripts.steps import Steps, lock_file
from scripts.warm import start as warm

LOCK = lock_file(ROOT)

try:
    CONFIG = Config.parse(config, [Path(file) for file in workflow.configfiles], ROOT)
except FoundryError as error:
    raise WorkflowError(str(error)) from None

STEPS = Steps(CONFIG)
MODELS = CONFIG.built_models
DEVICES = sorted(CONFIG.devices)

# Names the exported program among those of recipes, none of which can be called so.
FLOAT = "_float"

# Steps import `scripts` from here, wherever they run, and nothing from the folder they run in.
shell.prefix(f"set -euo pipefail; export PYTHONPATH='{ROOT}' PYTHONSAFEPATH=1; ")


wildcard_constraints:
    model="|".join(map(re.escape, CONFIG.models)),
    recipe="|".join(map(re.escape, CONFIG.recipes)),
    target="|".join(map(re.escape, CONFIG.targets)),
    device="|".join(map(re.escape, DEVICES)),
    program="|".join(map(re.escape, [FLOAT, *CONFIG.recipes])),
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


def divergences():
    """Reports of where the error arises, if the configuration wants them on the page."""
    builds = CONFIG.builds if CONFIG.divergence else []
    return [f"results/divergence/{b.model}/{b.recipe}/{b.target}.json" for b in builds]


@cache
def seen_from_here(path):
    """Relative, so that a project that moves with its results is not rebuilt."""
    return os.path.relpath(path)


def sources(step):
    """The file that a step starts in, and the lock file, for all to see. What else it imports is in
    its `code`: as inputs of every job, some 60 files each, they took most of Snakemake's planning.
    `ancient`, because touching a file is not a change."""
    return ancient([seen_from_here(entry(step, ROOT)), seen_from_here(LOCK)])


def code(step):
    return STEPS.code(step)


def module_file(wildcards):
    return ancient(seen_from_here(ROOT / CONFIG.models[wildcards.model].module))


def model_code(step):
    """The step's code and the model's, as a function of the wildcards."""

    def of(wildcards):
        return STEPS.code(step, wildcards.model)

    return of


def slice_of(step, *names):
    """What the step reads of the configuration about the wildcards ``names``, as canonical JSON."""

    def of(wildcards):
        return STEPS.slice(step, **{name: wildcards[name] for name in names})

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


def pins(wildcards):
    """The digests that the configuration gives to weights and data, as the NAME=DIGEST of steps."""
    entry = CONFIG.models[wildcards.model]
    pinned = {name: source.sha256 for name, source in entry.data.items()}
    if entry.weights.kind != "train":
        pinned["weights"] = entry.weights.sha256
    return [f"{name}={digest}" for name, digest in sorted(pinned.items())]


def local_source(wildcards):
    """A source on this disk is an input like any other; one in a package or on the web is not."""
    model = CONFIG.models[wildcards.model]
    source = model.weights if wildcards.name == "weights" else model.data[wildcards.name]
    return [seen_from_here(ROOT / source.file)] if source.kind == "file" else []


def calibration(wildcards):
    """The activation statistics; recipes with the same activation settings share them."""
    if not CONFIG.calibrates(wildcards.recipe):
        return []
    key = STEPS.activation_key(wildcards.model, wildcards.recipe)
    return [f"results/calibrate/{wildcards.model}/{key}.json"]


def calibrate_slice(wildcards):
    recipe = CONFIG.recipe_of(wildcards.model, wildcards.key)
    return STEPS.slice("calibrate", model=wildcards.model, recipe=recipe)


def statistics_option(wildcards, input):
    return [f"--statistics={file}" for file in input.statistics]


def program_of(recipe):
    """A recipe that compresses nothing leaves the exported program as it is."""
    return FLOAT if CONFIG.recipes[recipe].scheme == "none" else recipe


def torch_program(wildcards):
    if wildcards.program == FLOAT:
        return f"results/export/{wildcards.model}.pt2"
    return f"results/convert/{wildcards.model}/{wildcards.program}.pt2"


def torch_outputs(wildcards):
    """What the program to lower gives in PyTorch."""
    if program_of(wildcards.recipe) == FLOAT:
        return f"results/reference/{wildcards.model}.safetensors"
    return f"results/evaluate/{wildcards.model}/{wildcards.recipe}.safetensors"


def lowered(wildcards):
    """The lowered program; targets that differ only in compute units share it."""
    key = STEPS.lowering_key(wildcards.target)
    return f"results/lower/{wildcards.model}/{wildcards.recipe}/{key}.pte"


def edge_program(wildcards):
    """The edge program of a lowering; all targets share it, unless they skip other operators."""
    key = STEPS.edge_key(CONFIG.target_of(wildcards.key))
    return f"results/edge/{wildcards.model}/{program_of(wildcards.recipe)}/{key}.pt2"


def edge_about(wildcards):
    return edge_program(wildcards).removesuffix(".pt2") + ".json"


def edge_slice(wildcards):
    return STEPS.slice("edge", target=CONFIG.edge_target_of(wildcards.key))


def lower_slice(wildcards):
    return STEPS.slice("lower", target=CONFIG.target_of(wildcards.key))


def operator_sources(wildcards):
    return lowered(wildcards).removesuffix(".pte") + ".json"


# The steps whose code can change an artifact.
FEEDING_BYTES = ["train", "export", "calibrate", "convert", "edge", "lower", "pte"]


def matrix():
    """The builds as targets by recipe by model."""
    found = {}
    for build in CONFIG.builds:
        found.setdefault(build.model, {}).setdefault(build.recipe, []).append(build.target)
    return found


def named_files(model):
    """Path of a model's module, weights and data, by role."""
    wildcards = SimpleNamespace(model=model)
    data = sorted(CONFIG.models[model].data)
    return {
        "module": seen_from_here(ROOT / CONFIG.models[model].module),
        "weights": weights_file(wildcards),
        **{f"data.{name}": path for name, path in zip(data, data_files(wildcards), strict=True)},
    }


def fetched_files():
    files = [file for model in MODELS for file in named_files(model).items()]
    return sorted({path for role, path in files if role != "module"})


# What steps read about all builds at once: too long for a command line, see scripts/plans.py.
PLANS = {
    "summary": {"builds": matrix(), "devices": DEVICES},
    "manifest": {
        "builds": matrix(),
        "code": {step: code(step) for step in FEEDING_BYTES},
        "models": {
            name: {**CONFIG.slice("sources", model=name), "files": named_files(name)}
            for name in MODELS
        },
        "recipes": CONFIG.slice("recipes"),
        "targets": CONFIG.slice("targets"),
    },
}


def plan_file(step):
    return f"results/plan/{step}.json"


def write_plans():
    """When a run begins. They are no outputs of a rule, because no rule could be told them."""
    for step, plan in PLANS.items():
        plans.write(Path(plan_file(step)), plan)


def structure_digest(wildcards):
    return STEPS.structure_digest(wildcards.model)


def check_structure():
    """Refuses recipes that do not fit their models, as far as the models' modules are known."""
    try:
        CONFIG.check_structure(STEPS.known_modules(Path("results")))
    except FoundryError as error:
        raise WorkflowError(str(error)) from None


check_structure()
