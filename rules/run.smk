# What a run does before its jobs are planned: it refuses what cannot work, and locks the folder.
from pte_foundry.terminal import make_console
from pte_foundry.upstream.snakemake_end import at_the_end
from pte_foundry.upstream.snakemake_modules import add_handlers, is_module
from pte_foundry.upstream.snakemake_output_cache import give_to_jobs
from pte_foundry.upstream.snakemake_plan import tell_plan
from pte_foundry.upstream.snakemake_targets import before_planning
from pte_foundry.workflow import expectation
from pte_foundry.workflow.asked_artifacts import AskedArtifacts
from pte_foundry.workflow.requested import check_requested
from pte_foundry.workflow.resume import begin
from pte_foundry.workflow import storage_claim


def check_structure():
    """Refuses recipes that do not fit their models, as far as the models' modules are known."""
    with refusals():
        CONFIG.check_structure(JOBS.known_modules(PLACE.target("results")))
        CONFIG.check_inputs(JOBS.known_inputs(PLACE.target("results")))


def check_targets(targets, until):
    """Refuses files of ours that are asked for by path and that the config cannot give. Artifacts
    are validated as well, but not with `--until pte`."""
    with refusals():
        check_requested(JOBS, targets, PRODUCTS, PLACE)
        if PLACE.stored:
            storage_claim.check_claim(PLACE, Path.cwd())
    return ASKED.ask(targets, until)


def end_run(failed):
    """Ends a run: the page about it, and size, verdict and path of artifacts asked for by path.
    Returns why the run fails."""
    ended = failures() if failed else None
    if failed and not ended:
        return ""
    console = make_console(stderr=True, highlight=False)
    if RUN:
        with refusals():
            files = [Path(file) for file in workflow.configfiles]
            RUN[0].end(shown(made_by()), files, failed=failed)
    with refusals():
        return ASKED.conclude(console, ended.unmade if ended else ())


def begin_build():
    """Refuses a second build in this folder, and cleans up after one that was killed."""
    with refusals():
        begin(Path.cwd(), written=[RESULTS, placed("benchmarks")])
        if PLACE.stored:
            storage_claim.claim(PLACE, Path.cwd())
            storage_claim.begin(PLACE, Path.cwd())


def workflow_is_read():
    """Adds handlers, also to those that a workflow which uses these rules has set after them."""
    if is_used:
        add_handlers(workflow, partial(start_build, workflow), partial(tell_failures, workflow))
    at_the_end(workflow, end_run)


def expected_seconds():
    return expectation.Expectation(expectation.read(Path(placed("benchmarks")))).seconds


check_structure()
PRODUCTS = {
    stage: list(map(PLACE.name, getattr(rules, stage).output))
    for stage in STAGES
    if hasattr(rules, stage)
}
ASKED = AskedArtifacts(CONFIG, PLACE)
give_to_jobs(workflow)
tell_plan(workflow, expected_seconds)
is_used = is_module(workflow)
before_planning(workflow, check_targets, begin_build, workflow_is_read)
