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
    run of a new project, it is that of the weights' source, or none if they must be loaded.
    """

    def of(wildcards, attempt):
        files = [lowered(wildcards)] if step == "pte" else files_of_size(wildcards)
        return needed(case(step, wildcards), weights_mb(map(Path, files))) * attempt

    return of


def case(step, wildcards):
    """The name under which scripts/memory.py knows what this job of a step needs."""
    if step == "edge" and wildcards.program != FLOAT:
        return "edge, compressed"
    if step == "lower" and program_of(wildcards.recipe) != FLOAT:
        return "lower, compressed"
    if step == "pte" and CONFIG.targets[wildcards.target].compute_units != "all":
        return "pte, rewritten"
    return step


def files_of_size(wildcards):
    """What tells how large a model is: best the program, which is in fp32 whatever the weights."""
    if not hasattr(wildcards, "model"):
        return
    yield f"results/export/{wildcards.model}.pt2"
    yield weights_file(wildcards)
    source = CONFIG.models[wildcards.model].weights
    if source.kind == "file":
        yield ROOT / source.file
    elif source.kind == "package":
        yield importlib.metadata.distribution(source.package).locate_file(source.file)
