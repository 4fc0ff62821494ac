# What rules ask about their jobs. A rule runs the command of its name, pte_foundry/steps/<rule>.py.
# Two parameters decide about rebuilding: `code` is a digest of the command's source files and of the
# lock file, `slice` is the part of the config that it reads.
from functools import cache

from pte_foundry.models.imports import path_from
from pte_foundry.models.snapshots import files_of
from pte_foundry.slice_argument import encoded
from pte_foundry.upstream.snakemake_storage import source
from pte_foundry.workflow import slices
from pte_foundry.workflow.code import entry
from pte_foundry.workflow.paths import literal
from pte_foundry.workflow.stages import FEEDING_BYTES


def artifacts():
    return [f"results/pte/{b.model}/{b.recipe}/{b.target}.pte" for b in CONFIG.builds]


def validations():
    return [
        f"results/validation/{b.model}/{b.recipe}/{b.target}/{device}.json"
        for b in CONFIG.builds
        for device in DEVICES
    ]


def tokenizers():
    """The tokenizers of language models, which belong to their artifacts."""
    return [file for model in MODELS for file in slices.tokenizer(CONFIG, model)]


def divergences():
    """Per-layer error reports of all builds, if the config asks for them on the page."""
    builds = CONFIG.builds if CONFIG.divergence else []
    return [f"results/divergence/{b.model}/{b.recipe}/{b.target}.json" for b in builds]


@cache
def relative(path):
    """The path from here: a project that moves with its results is not rebuilt."""
    return named(os.path.relpath(path))


def source_file(path):
    """A file of the project or the library as an input: on this disk, also if results are not."""
    return source(relative(path))


def named(path):
    """A path that rules can name."""
    with refusals():
        return literal(path)


def code_files(stage):
    """The file of a stage's command and the lock file, as visible inputs. All other files that the
    command imports are in its `code`: as inputs of every job, some 60 files each, they took most of
    Snakemake's planning time. `ancient`, because touching a file is not a change."""
    return ancient([source_file(entry(stage)), source_file(LOCK)])


def code(stage):
    """The code of a stage, once a job is planned: on a cluster these files are read for each job."""
    return lambda wildcards: JOBS.code(stage)


def model_code(stage):
    """The code of a stage and of the model that it runs."""
    return lambda wildcards: JOBS.code(stage, wildcards.model)


def scheme_of(recipe):
    return CONFIG.recipes[recipe].scheme


def scheme_code(stage):
    """The code of a stage, of the model that it runs, and of the recipe's scheme."""
    return lambda wildcards: JOBS.code(stage, wildcards.model, scheme_of(wildcards.recipe))


def slice_of(stage, *names):
    """What the stage reads of the config about the wildcards ``names``."""
    return lambda wildcards: JOBS.slice(stage, **{name: wildcards[name] for name in names})


def fetched(model, name, source):
    return named(f"results/fetch/{model}/{name}/{source.filename}")


def weights_of(model):
    weights = CONFIG.models[model].weights
    if weights.made_by:
        return f"results/train/{model}.safetensors"
    return fetched(model, "weights", weights)


def data_of(model):
    data = CONFIG.models[model].data
    return {name: fetched(model, name, data[name]) for name in sorted(data)}


def module_of(model):
    return source_file(CONFIG.module_file(model))


def module_file(wildcards):
    """A model's module as an input, which counts by its digest, in `code`."""
    return ancient(module_of(wildcards.model))


def imported_files():
    """The modules of all models, and what they import in their projects."""
    found = {
        file
        for model in MODELS
        for file in JOBS.imports(model).files.values()
        if path_from(CONFIG.project(model), file)
    }
    return list(map(source_file, sorted(found)))


def digest_of_imports(wildcards):
    return JOBS.imports_digest(wildcards.model)


def paths_of(wildcards):
    """Paths of a model's module, weights and data: what its commands read, and the manifest. Those
    of the module are as seen from the project, so that they are equal in every folder."""
    model = wildcards.model
    own = CONFIG.models[model].module
    inside = own and path_from(CONFIG.project(model), CONFIG.module_file(model))
    return encoded(
        {
            "module": inside or own,
            "weights": weights_of(model),
            "data": data_of(model),
        }
    )


def untrained_model(wildcards):
    """The files of a model without its weights."""
    return {
        "model": f"results/model/{wildcards.model}.json",
        "module": module_file(wildcards),
        "data": list(data_of(wildcards.model).values()),
    }


def model_files(wildcards):
    return untrained_model(wildcards) | {"weights": weights_of(wildcards.model)}


def sources_of_models():
    """Weights and data of all models that are built."""
    found = {file for model in MODELS for file in [weights_of(model), *data_of(model).values()]}
    return sorted(found)


def local_source(wildcards):
    """A source on this disk is an input like any other; one in a package or on the web is not."""
    model, name = wildcards.model, wildcards.name
    given = CONFIG.source(model, name)
    path = getattr(given, given.path_key or "", None)
    if path is None:
        return []
    path = CONFIG.source_folder(model, name) / path
    files = files_of(path).values() if given.kind == "folder" else [path]
    return list(map(source_file, sorted(files)))


def source_folder(wildcards):
    """What the path of a source is relative to."""
    return relative(CONFIG.source_folder(wildcards.model, wildcards.name))


def calibration(wildcards):
    """The activation ranges; recipes with the same activation settings share them."""
    if not CONFIG.recipes[wildcards.recipe].calibrates:
        return []
    key = JOBS.activation_key(wildcards.model, wildcards.recipe)
    return [f"results/calibrate/{wildcards.model}/{key}.json"]


def calibrate_slice(wildcards):
    recipe = JOBS.recipe_of(wildcards.model, wildcards.key)
    return JOBS.slice("calibrate", model=wildcards.model, recipe=recipe)


def program_of(recipe):
    """A recipe that compresses nothing leaves the exported program as it is."""
    return FLOAT if scheme_of(recipe) == "none" else recipe


def torch_program(wildcards):
    if wildcards.program == FLOAT:
        return f"results/export/{wildcards.model}.pt2"
    return f"results/convert/{wildcards.model}/{wildcards.program}.pt2"


def torch_outputs(wildcards):
    """Outputs in PyTorch of the program that is lowered."""
    if program_of(wildcards.recipe) == FLOAT:
        return f"results/reference/{wildcards.model}.safetensors"
    return f"results/evaluate/{wildcards.model}/{wildcards.recipe}.safetensors"


def lowered(wildcards):
    """The lowered program; targets that differ only in compute units share it."""
    key = JOBS.lowering_key(wildcards.target)
    return f"results/lower/{wildcards.model}/{wildcards.recipe}/{key}.pte"


def debug_handles(wildcards):
    return lowered(wildcards).removesuffix(".pte") + ".json"


def edge_program(wildcards):
    """The edge program of a lowering; all targets share it, unless they skip other operators."""
    key = JOBS.edge_key(JOBS.target_of(wildcards.key))
    return f"results/edge/{wildcards.model}/{program_of(wildcards.recipe)}/{key}.pt2"


def edge_metadata(wildcards):
    return edge_program(wildcards).removesuffix(".pt2") + ".json"


def edge_slice(wildcards):
    return JOBS.slice("edge", target=JOBS.edge_target_of(wildcards.key))


def lower_slice(wildcards):
    return JOBS.slice("lower", target=JOBS.target_of(wildcards.key))


def enumerated_shapes(wildcards):
    return encoded(CONFIG.models[wildcards.model].enumerated_shapes)


def manifest_slice(wildcards):
    """The code of all stages that can change an artifact, and of the schemes that are used."""
    found = {stage: JOBS.code(stage) for stage in FEEDING_BYTES}
    for scheme in {scheme_of(build.recipe) for build in CONFIG.builds}:
        found[f"convert/{scheme}"] = JOBS.code("convert", scheme=scheme)
    return encoded({"code": found})


def structure_digest(wildcards):
    return JOBS.structure_digest(wildcards.model)
