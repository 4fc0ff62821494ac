# What the rules ask of a scheduler.
import importlib.metadata

from scripts.memory import needed, weights_mb


def scaled(amount):
    """A resource that grows when a job is tried again."""

    def of(wildcards, attempt):
        return amount * attempt

    return of


def memory(step):
    """The memory that a step needs for a model of this size, in MB; it grows as `scaled` does.

    Snakemake asks again when a job is ready, so the size is known by then. Until then, as in a dry
    run of a new project, it is that of the weights' source, or of no weights if it must be loaded.
    """

    def of(wildcards, attempt):
        files = files_of_size(wildcards.model) if hasattr(wildcards, "model") else []
        return needed(step, weights_mb(files), compressed(wildcards)) * attempt

    return of


def compressed(wildcards):
    """Whether it is about a program with compressed weights."""
    if hasattr(wildcards, "recipe"):
        return program_of(wildcards.recipe) != FLOAT
    return getattr(wildcards, "program", FLOAT) != FLOAT


def files_of_size(model):
    """What tells how large a model is: best the program, which is in fp32 whatever the weights."""
    yield Path(f"results/export/{model}.pt2")
    yield Path(weights_file(SimpleNamespace(model=model)))
    source = CONFIG.models[model].weights
    if source.kind == "file":
        yield ROOT / source.file
    elif source.kind == "package":
        yield Path(importlib.metadata.distribution(source.package).locate_file(source.file))
