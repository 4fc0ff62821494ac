"""Protects how a step's memory is read where a scheduler limits it."""

from types import SimpleNamespace

import pytest
from pte_foundry.bench import cluster_memory, job_memory
from pte_foundry.bench.cluster_memory import Node
from pte_foundry.workflow.memory import MEBIBYTE, needed, nested


class Machine:
    """A machine's files about control groups and processes."""

    def __init__(self, folder):
        self.folder = folder
        self.node = Node(folder / "memory", folder / "proc")

    def job(self, number, mebibytes, *processes):
        job = self.folder / "memory/slurm_n1/uid_0" / f"job_{number}"
        for step in ("step_batch", "step_0"):
            (job / step).mkdir(parents=True, exist_ok=True)
            (job / step / "cgroup.procs").write_text("")
        (job / "step_0/cgroup.procs").write_text("".join(f"{each}\n" for each in processes))
        stat = f"cache {900 * MEBIBYTE}\ntotal_cache 5\ntotal_rss {(mebibytes - 20) * MEBIBYTE}\n"
        (job / "memory.stat").write_text(f"{stat}total_shmem {20 * MEBIBYTE}\n")

    def process(self, number, *command):
        file = self.folder / "proc" / str(number) / "cmdline"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(f"{word}\0" for word in command))


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    made.process(1, "python", "-m", "snakemake", "--log", "x")
    made.step = lambda number, name, log: made.process(
        number, "python", "-P", "-m", f"pte_foundry.steps.{name}", "--log", f"logs/{log}.log"
    )
    return made


def test_the_peak_of_a_job_counts_for_the_step_that_runs_without_files(machine):
    machine.step(2, "lower", "lower/net/fp16/ios18")
    machine.step(3, "validate", "validation/net/fp16/ios18/host")
    machine.step(4, "summary", "summary")
    for held in (300, 700, 400):
        machine.job(17, held, 1, 2)
        machine.node.look()
    machine.job(17, 500, 1, 3, 99)  # process 99 has ended meanwhile
    machine.job(18, 250, 4)
    (machine.folder / "memory/slurm_n1/uid_0/job_19").mkdir()  # it has just ended
    machine.node.look()
    assert machine.node.peaks == {
        ("lower", "net", "fp16", "ios18"): 700,
        ("validate", "net", "fp16", "ios18", "host"): 500,
        ("summary",): 250,
    }


def test_a_number_that_another_process_gets_is_not_taken_for_the_first(machine):
    machine.step(2, "lower", "lower/net/fp16/ios18")
    machine.job(17, 100, 2)
    machine.node.look()
    machine.job(17, 100)
    machine.node.look()
    machine.step(2, "export", "export/net")
    machine.job(17, 400, 2)
    machine.node.look()
    peaks = {("lower", "net", "fp16", "ios18"): 100, ("export", "net"): 400}
    assert machine.node.peaks == peaks


def test_a_request_is_right_within_a_factor_of_two(tmp_path, monkeypatch):
    """What is requested includes the Snakemakes around a step."""
    config = SimpleNamespace(recipes={}, builds=[None] * 100)
    monkeypatch.setattr(job_memory, "jobs_of", lambda _: SimpleNamespace(config=config))
    right = needed("export") + nested(100)
    for peak, within in ((right + 1, False), (right / 2, True), (right / 2 - 1, False)):
        (row,) = cluster_memory.stages({("export", "net"): peak}, tmp_path)
        assert (row["declared_mb"], row["within"]) == (right, within)
    (row,) = cluster_memory.stages({("summary",): 200}, tmp_path)
    assert (row["step"], row["model"], row["jobs"]) == ("summary", "", 1)
