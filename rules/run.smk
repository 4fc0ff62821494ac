# What a run does before its jobs are planned: it refuses what cannot work, and locks the folder.
from pte_foundry.upstream.snakemake_output_cache import give_to_jobs
from pte_foundry.upstream.snakemake_targets import before_planning
from pte_foundry.workflow.requested import check_requested
from pte_foundry.workflow.resume import begin
from pte_foundry.workflow import storage_claim


def check_structure():
    """Refuses recipes that do not fit their models, as far as the models' modules are known."""
    known = STORAGE.base / "results" if STORAGE else Path("results")
    with refusals():
        CONFIG.check_structure(JOBS.known_modules(known))
        CONFIG.check_inputs(JOBS.known_inputs(known))


def check_targets(targets):
    """Refuses files of ours that are asked for by path and that the config cannot give."""
    name = STORAGE.name if STORAGE else str
    products = {stage: list(map(name, getattr(rules, stage).output)) for stage in STAGES}
    with refusals():
        check_requested(JOBS, targets, products)
        if STORAGE:
            storage_claim.check_claim(STORAGE, Path.cwd())


def begin_build():
    """Refuses a second build in this folder, and cleans up after one that was killed."""
    with refusals():
        begin(Path.cwd())
        if STORAGE:
            storage_claim.claim(STORAGE, Path.cwd())
            storage_claim.begin(STORAGE, Path.cwd())


check_structure()
# In a module, the targets are those of another.
own = Path(workflow.basedir) == SCRIPTS.parent
give_to_jobs(workflow)
before_planning(workflow, check_targets if own else None, begin_build)
