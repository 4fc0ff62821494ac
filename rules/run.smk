# What a run does before its jobs are planned: it refuses what cannot work, and locks the folder.
from pte_foundry.terminal import make_console
from pte_foundry.upstream.snakemake_end import at_the_end
from pte_foundry.upstream.snakemake_plan import tell_plan
from pte_foundry.upstream.snakemake_targets import before_planning
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


def tell_artifacts(failed):
    """Ends a run with size, verdict and path of the artifacts that were asked for by path."""
    ended = outcome(workflow) if failed else None
    if failed and not ended:  # after Ctrl-C
        return ""
    console = make_console(stderr=True, highlight=False)
    return ASKED.conclude(console, ended.unmade if ended else ())


def begin_build():
    """Refuses a second build in this folder, and cleans up after one that was killed."""
    with refusals():
        begin(Path.cwd())


def expected_seconds():
    return expectation.Expectation(expectation.read(Path("benchmarks"))).seconds


check_structure()
ASKED = AskedArtifacts(CONFIG)
tell_plan(workflow, expected_seconds)
at_the_end(workflow, tell_artifacts)
# In a module, the targets are those of another.
own = Path(workflow.basedir) == SCRIPTS.parent
before_planning(workflow, check_targets if own else None, begin_build)
