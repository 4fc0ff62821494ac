# What the rules request from a scheduler, see pte_foundry/workflow/stages.py, and how their jobs run
# on its nodes.
from contextlib import suppress

from pte_foundry.config.models import SNAPSHOT
from pte_foundry.job.fork_server import start as fork_server
from pte_foundry.packages import packaged_file
from pte_foundry.upstream.snakemake_execution import executes_elsewhere
from pte_foundry.upstream.snakemake_nested import execute_in_turn
from pte_foundry.upstream.snakemake_storage import StorageError
from pte_foundry.workflow.memory import case, needed, nested, weights_mb


def start_fork_servers(logs, **options):
    libraries = (JOBS.imports(model).libraries for model in MODELS)
    fork_server.start(libraries, logs, **options)


def start_group():
    """Runs on a node, before the first job of a group. One server for all that its jobs load: what
    the group has been given is enough for it and one job."""
    start_fork_servers(
        Path(placed("logs/fork_server"), f"{os.uname().nodename}-{os.getpid()}"), shared=True
    )


execute_in_turn(workflow, start_group)


def priority(stage):
    return STAGES[stage].priority


def runtime(stage):
    """Minutes for a model of this size; more when a job is tried again. A group asks for the sum."""

    def of(wildcards, attempt):
        return round(STAGES[stage].minutes + size_of(stage, wildcards) / 10) * attempt

    return of


def memory(stage):
    """MB for a model of this size; more when a job is tried again.

    Snakemake asks again when a job is ready, so the size is known by then. Until then, as in a dry
    run of a new project, it is that of the weights' source, or 0 if they must be downloaded.
    """

    def of(wildcards, attempt):
        recipe = wildcards.get("recipe", wildcards.get("program"))
        name = case(CONFIG, stage, recipe, wildcards.get("target"))
        step = needed(name, size_of(stage, wildcards))
        around = nested(len(CONFIG.builds)) if executes_elsewhere(workflow) else 0
        return (step + around) * attempt

    return of


def size_of(stage, wildcards):
    """MB of the model's weights in fp32."""
    return weights_mb(map(Path, files_of_size(stage, wildcards)), stored_bytes)


def stored_bytes(file):
    """Bytes of a result that is in a storage. Many jobs ask: it is asked twice a minute."""
    if not PLACE.stored or file.is_absolute() or file.parts[0] != "results":
        return None
    return bytes_since(file.as_posix(), time.monotonic() // 30)


@cache
def bytes_since(name, moment):
    with suppress(StorageError):  # the job that needs the file tells
        return PLACE.size(name)


def files_of_size(stage, wildcards):
    """Files that show how large a model is: best the program, whose weights are always fp32."""
    if not hasattr(wildcards, "model"):
        return
    model, files = wildcards.model, []
    if stage == "pte":
        files.append(lowered(wildcards))
    files += [f"results/export/{model}.pt2", weights_of(model)]
    yield from (Path(placed(file)) for file in files)
    source = CONFIG.models[model].weights
    if source.kind == "random" and SNAPSHOT in data_of(model):
        yield Path(placed(data_of(model)[SNAPSHOT]))
    if source.kind == "package" and hasattr(source, "file"):
        yield packaged_file(source.package, source.file)
    elif source.path_key:
        yield CONFIG.source_folder(model, "weights") / getattr(source, source.path_key)
