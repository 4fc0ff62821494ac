# What the rules request from a scheduler: see pte_foundry/workflow/stages.py.
from pte_foundry.packages import packaged_file
from pte_foundry.workflow.memory import needed, weights_mb


def priority(stage):
    return STAGES[stage].priority


def runtime(stage):
    """Minutes; more when a job is tried again."""
    return lambda wildcards, attempt: STAGES[stage].minutes * attempt


def memory(stage):
    """MB for a model of this size; more when a job is tried again.

    Snakemake asks again when a job is ready, so the size is known by then. Until then, as in a dry
    run of a new project, it is that of the weights' source, or 0 if they must be downloaded.
    """

    def of(wildcards, attempt):
        files = [lowered(wildcards)] if stage == "pte" else files_of_size(wildcards)
        return needed(case(stage, wildcards), weights_mb(map(Path, files))) * attempt

    return of


def case(stage, wildcards):
    """The name under which pte_foundry.workflow.memory knows what this job of a stage needs."""
    if stage == "edge" and wildcards.program != FLOAT:
        return "edge, compressed"
    if stage == "lower" and program_of(wildcards.recipe) != FLOAT:
        return "lower, compressed"
    if stage == "pte" and CONFIG.targets[wildcards.target].compute_units != "all":
        return "pte, rewritten"
    return stage


def files_of_size(wildcards):
    """Files that show how large a model is: best the program, whose weights are always fp32."""
    if not hasattr(wildcards, "model"):
        return
    yield f"results/export/{wildcards.model}.pt2"
    yield weights_of(wildcards.model)
    source = CONFIG.models[wildcards.model].weights
    if source.kind == "file":
        yield ROOT / source.file
    elif source.kind == "package":
        yield packaged_file(source.package, source.file)
