# What a run does before its jobs are planned: it refuses what cannot work, and locks the folder.
from pte_foundry.terminal import make_console
from pte_foundry.upstream.snakemake_plan import tell_plan, wait_for_loggers
from pte_foundry.upstream.snakemake_targets import before_planning, when_up_to_date
from pte_foundry.workflow import expectation
from pte_foundry.workflow.asked_artifacts import AskedArtifacts
from pte_foundry.workflow.requested import check_requested
from pte_foundry.workflow.resume import begin


def check_structure():
    """Refuses recipes that do not fit their models, as far as the models' modules are known."""
    with refusals():
        CONFIG.check_structure(JOBS.known_modules(Path("results")))
        CONFIG.check_inputs(JOBS.known_inputs(Path("results")))


def check_targets(targets, until):
    """Refuses files of ours that are asked for by path and that the config cannot give. Artifacts
    are validated as well, but not with `--until pte`."""
    products = {stage: list(map(str, getattr(rules, stage).output)) for stage in STAGES}
    with refusals():
        check_requested(JOBS, targets, products)
    return ASKED.ask(targets, until)


def tell_artifacts(failed=None):
    """Ends a run with size, verdict and path of the artifacts that were asked for by path."""
    if not ASKED.reports:
        return
    wait_for_loggers(workflow)
    missed = ASKED.conclude(
        make_console(stderr=True, highlight=False), failed.unmade if failed else ()
    )
    if missed and not failed:
        raise WorkflowError(f"Everything is built, but gates are missed by {', '.join(missed)}.")


def begin_build():
    """Refuses a second build in this folder, and cleans up after one that was killed."""
    with refusals():
        begin(Path.cwd())


def expected_seconds():
    return expectation.Expectation(expectation.read(Path("benchmarks"))).seconds


check_structure()
ASKED = AskedArtifacts(CONFIG)
tell_plan(workflow, expected_seconds)
when_up_to_date(workflow, tell_artifacts)
# In a module, the targets are those of another.
own = Path(workflow.basedir) == SCRIPTS.parent
before_planning(workflow, check_targets if own else None, begin_build)
