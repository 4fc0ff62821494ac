"""Protects that a logger learns the planned jobs, without which there is no estimate."""

from types import SimpleNamespace

import pytest
from pte_foundry.upstream.snakemake_plan import tell_plan
from pte_foundry.upstream.versions import UpstreamError
from snakemake.api import Workflow
from snakemake.dag import DAG
from snakemake.logging import LoggerManager

from tests.unit.upstream.source_digest import assert_source_digest


class Job:
    def __init__(self, rule: str, *output: str, benchmark: str | None = None, **wildcards) -> None:
        self.rule = SimpleNamespace(name=rule)
        self.wildcards_dict = wildcards

        class Files(list):
            pass

        self.output = Files(output)
        if benchmark:
            self.output.benchmark = benchmark


EXPORT = Job("export", "m.pt2", benchmark="benchmarks/export/m.tsv", model="m")
LOWER = Job("lower", "m.pte", model="m")
REPORT = Job("report", "index.html")
DONE = Job("fetch", "m.bin", model="m")
ALL = Job("all")
NEEDS = {DONE: [], EXPORT: [DONE], LOWER: [EXPORT, DONE], REPORT: [LOWER], ALL: [REPORT]}
IDS = {job: number for number, job in enumerate(NEEDS, start=1)}


class Made:
    """A workflow as far as it is used, with loggers, of which one has ``expect``."""

    def __init__(self, main: bool = True, loggers: int = 1) -> None:
        self.is_main_process = main
        self.plans = []
        listening = [SimpleNamespace(expect=self.plans.append)] * loggers
        self.logger_manager = SimpleNamespace(
            get_log_handlers=lambda: [SimpleNamespace(), *listening]
        )
        self.dag = None

    def _build_dag(self) -> None:
        self.dag = SimpleNamespace(
            needrun_jobs=lambda exclude_finished=True: (job for job in NEEDS if job is not DONE),
            dependencies={job: dict.fromkeys(needs) for job, needs in NEEDS.items()},
            jobid=lambda job: IDS[job],
        )


def expected(rule: str, benchmark: str | None) -> float:
    return {"benchmarks/export/m.tsv": 9.0, None: 1.0}[benchmark]


def test_snakemake_still_has_what_is_used():
    digest = "246d9c8ae4dd927682f2552c1ca13219616e847426cffa578598539256c87b1f"
    check = "Has `dag` all jobs, also those beyond --until, once `_build_dag` has returned?"
    assert_source_digest(Workflow._build_dag, digest, check)
    assert {"needrun_jobs", "jobid", "dependencies"} <= vars(DAG).keys()
    assert "get_log_handlers" in vars(LoggerManager)


def test_loggers_are_told_what_will_run_and_what_it_waits_for():
    workflow = Made()
    tell_plan(workflow, lambda: expected)
    assert workflow.plans == []
    workflow._build_dag()
    plan = {
        2: ("export", "m", 9.0, ()),
        3: ("lower", "m", 1.0, (2,)),
        4: ("report", "", 1.0, (3,)),
    }
    assert workflow.plans == [plan]


def test_without_such_a_logger_nothing_is_read():
    workflow = Made(loggers=0)
    tell_plan(workflow, lambda: pytest.fail("it reads all benchmarks"))
    workflow._build_dag()
    assert workflow.dag


def test_a_process_that_executes_one_job_tells_nothing():
    workflow = Made(main=False)
    tell_plan(workflow, lambda: expected)
    workflow._build_dag()
    assert workflow.plans == []


def test_a_workflow_without_the_method_is_refused_with_the_name_of_the_file():
    with pytest.raises(UpstreamError, match=r"_build_dag does not exist.*snakemake_plan"):
        tell_plan(SimpleNamespace(is_main_process=True), lambda: expected)
