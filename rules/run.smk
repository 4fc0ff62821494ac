# What a run does before its jobs are planned: it refuses what cannot work, and locks the folder.
from pte_foundry.upstream.snakemake_modules import add_handlers, is_module
from pte_foundry.upstream.snakemake_targets import before_planning
from pte_foundry.workflow.requested import check_requested
from pte_foundry.workflow.resume import begin


def check_structure():
    """Refuses recipes that do not fit their models, as far as the models' modules are known."""
    with refusals():
        CONFIG.check_structure(JOBS.known_modules(RESULTS))
        CONFIG.check_inputs(JOBS.known_inputs(RESULTS))


def check_targets(targets):
    """Refuses files of ours that are asked for by path and that the config cannot give."""
    with refusals():
        check_requested(JOBS, targets, PRODUCTS, RESULTS)


def begin_build():
    """Refuses a second build in this folder, and cleans up after one that was killed."""
    with refusals():
        begin(Path.cwd(), written=[RESULTS, placed("benchmarks")])


check_structure()
PRODUCTS = {
    stage: list(map(str, getattr(rules, stage).output)) for stage in STAGES if hasattr(rules, stage)
}
# The workflow that uses these rules as a module may have handlers of its own.
handlers = add_handlers(workflow, partial(start_build, workflow), partial(tell_failures, workflow))
before_planning(workflow, check_targets, begin_build, handlers if is_module(workflow) else None)
