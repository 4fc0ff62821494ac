# The library, the configuration, and what happens at the start of a run and after one that failed.
import importlib.util
import os
import re
import sys
import time
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path

# These rules run with the library of their own clone, whatever else is installed. Only rules that
# were fetched alone, as with `module: github(...)`, run with an installed library.
SCRIPTS = Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).parent / "scripts"

found = getattr(importlib.util.find_spec("pte_foundry"), "origin", None)
of_another = not (found and Path(found).is_relative_to(SCRIPTS.resolve()))
if SCRIPTS.is_dir() and of_another:
    sys.path.insert(0, str(SCRIPTS))
    for name in [name for name in sys.modules if name.partition(".")[0] == "pte_foundry"]:
        del sys.modules[name]  # imported by the logger, before these rules were read
elif not found:
    raise WorkflowError(
        "The Python package pte_foundry is not installed in this environment, and these rules were "
        "fetched without it. Install it from the same repository and version, with pip."
    )

from pte_foundry.upstream.snakemake_messages import describe_changes, shorten_messages

MESSAGES = shorten_messages(workflow)  # first, as an interrupt may come soon

from pte_foundry.config.config import Config
from pte_foundry.errors import FoundryError
from pte_foundry.lock import lock_file
from pte_foundry.place import Folder
from pte_foundry.upstream.snakemake_execution import (
    given_configuration,
    jobs_share_environment,
    schedules_local_jobs,
)
from pte_foundry.upstream.snakemake_failed_records import keep_records_of_failed_jobs
from pte_foundry.upstream.snakemake_modules import placing
from pte_foundry.upstream.snakemake_outcome import forget, outcome
from pte_foundry.upstream.snakemake_output_cache import copy_and_check
from pte_foundry.upstream.snakemake_rate_limiter import remove_rate_limiter
from pte_foundry.upstream.snakemake_refusals import refusal
from pte_foundry.upstream.snakemake_slurm_status import keep_asking
from pte_foundry.upstream.snakemake_storage import Storage
from pte_foundry.upstream.snakemake_storage_errors import tell_storage_errors
from pte_foundry.upstream.versions import assert_pinned
from pte_foundry.version import made_by, shown
from pte_foundry.workflow import changes
from pte_foundry.workflow.build_options import keep_options
from pte_foundry.workflow.failure_line import failure_line
from pte_foundry.workflow.failures import FailedRun
from pte_foundry.workflow.jobs import Jobs
from pte_foundry.workflow.last_run import Run
from pte_foundry.workflow.paths import check_folder
from pte_foundry.workflow.requested import FLOAT
from pte_foundry.workflow.stages import STAGES


@contextmanager
def refusals():
    """Tells an error of the user, or of the disk, by its message."""
    try:
        yield
    except (FoundryError, OSError) as error:
        raise refusal(str(error)) from None


# Jobs must find it too. The image of envs/Dockerfile has the packages, but not the library.
by_path = SCRIPTS.is_dir() and (of_another or not jobs_share_environment(workflow))
with refusals():
    check_folder(Path.cwd())
    check_folder(SCRIPTS.resolve(), in_list=by_path)
if by_path:
    others = filter(None, [os.environ.get("PYTHONPATH")])
    os.environ.update(PYTHONPATH=os.pathsep.join([str(SCRIPTS), *others]))

# Paths in the config are relative to its file. What is in no file is from here, or from the folder
# of the workflow that uses these rules as a module.
CLONE = SCRIPTS.resolve().parent if SCRIPTS.is_dir() else Path.cwd()
HERE = [Path.cwd(), Path(workflow.basedir).resolve()]
LOCK = lock_file()
BEGAN = time.time()


def default_config():
    """The config that another one extends. Of rules that were fetched alone, it is fetched too."""
    file = CLONE / "config/config.yaml"
    return file if SCRIPTS.is_dir() else Path(workflow.source_path("../config/config.yaml"))


with refusals():
    assert_pinned()
    placed = placing(workflow)  # a module may have a prefix
    RESULTS = Path(placed("results/x")).parent
    # In a storage, with --default-storage-provider, or on this disk.
    PLACE = Storage.of(workflow, RESULTS.parent) or Folder(RESULTS.parent)
    files = [Path(file).absolute() for file in workflow.configfiles]
    CONFIG = Config.parse(config, files, CLONE, default_config, HERE)

keep_records_of_failed_jobs()
keep_asking()
tell_storage_errors()
copy_and_check()
MESSAGES.tell = partial(failure_line, PLACE, BEGAN)
JOBS = Jobs(CONFIG)
describe_changes(partial(changes.describe, JOBS.code_contents))
MODELS = CONFIG.built_models
DEVICES = sorted(CONFIG.devices)


wildcard_constraints:
    model="|".join(map(re.escape, CONFIG.models)),
    recipe="|".join(map(re.escape, CONFIG.recipes)),
    target="|".join(map(re.escape, CONFIG.targets)),
    device="|".join(map(re.escape, DEVICES)),
    program="|".join(map(re.escape, [FLOAT, *CONFIG.recipes])),
    name=r"[A-Za-z0-9_.-]+",
    file=r"[^/]+",
    key=r"[a-z0-9-]+",


RUN = []  # what the run found when it began; nothing if results are in a storage


def start_build(workflow):
    """Runs once before the first job."""
    if not PLACE.stored:
        RUN.append(Run.begin(PLACE.base))
    changes.keep(JOBS.code_contents)
    if given := given_configuration(workflow):
        keep_options(Path.cwd(), *given, PLACE.address("results"))
        print(f"Building with {shown(made_by())}", file=sys.stderr, flush=True)
    if schedules_local_jobs(workflow):
        remove_rate_limiter(workflow)
        if jobs_share_environment(workflow):
            start_fork_servers(Path(placed("logs/fork_server")))


@cache
def failures():
    """What a run in which a job failed has not done; None after Ctrl-C."""
    stages = {getattr(rules, name).rule.name: name for name in STAGES if hasattr(rules, name)}
    return outcome(workflow, PLACE, stages)


def tell_failures(workflow):
    """Runs once after a run in which a job failed: the summary, the page and a table come anyway."""
    with refusals():
        if failed := failures():
            for name in FailedRun(CONFIG, failed, BEGAN, MESSAGES.killed, PLACE).conclude():
                forget(workflow, name, PLACE)
