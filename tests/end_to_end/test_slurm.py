"""Protects ``profiles/slurm``: the rules run as jobs of a real Slurm, and failures are told.

The cluster is Slurm from Debian: a controller and three nodes on this machine. Every node has its
own host name, processes and mounts, and all listen on 127.0.0.1 only.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.project import CONFIG, Project

NODES = ("n1", "n2", "n3")
PROGRAMS = ("slurmctld", "slurmd", "squeue", "munged", "unshare")


def missing() -> list[str]:
    found = [f"program {name}" for name in PROGRAMS if shutil.which(name) is None]
    if os.geteuid() != 0:
        found.append("root")
    if not Path("/etc/slurm").is_dir():
        found.append("folder /etc/slurm")
    return found


NEEDS = f"needs {', '.join(missing())} (Debian: slurmctld slurmd slurm-client munge)"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(missing()) and "CI" not in os.environ, reason=NEEDS),
]

# `config_overrides` lets three nodes claim more than the machine has, `NoInAddrAny` keeps them to
# 127.0.0.1, `jobcomp/filetxt` writes down every job that ended.
SLURM_CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
PlugStackConfig=/dev/null
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=2,batch_sched_delay=0
ReturnToService=2
MinJobAge=3600
JobRequeue=0
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/jobs.txt
PartitionName=main Nodes=ALL Default=YES LLN=YES State=UP
"""
NODE_CONF = "NodeName={0} NodeHostname={0} NodeAddr=127.0.0.1 Port={1} CPUs=4 RealMemory=16000\n"

# A node sees the cluster's folder as /etc/slurm, where the executor plugin's `srun` looks for its
# configuration, and names that resolve. bash stays as process 1, because slurmd reaps no orphans.
NODE = """\
set -e
hostname {node}
mount --bind {folder}/hosts /etc/hosts
mount --bind {folder}/etc /etc/slurm
slurmd -D -N {node} &
wait $!
"""


@contextmanager
def process(*command: str, **options) -> Iterator[subprocess.Popen]:
    """A program in the background. It is killed, as `unshare` does not listen to less."""
    started = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, **options)
    try:
        yield started
    finally:
        started.kill()
        started.wait()


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [opened.getsockname()[1] for opened in sockets]


def wait_until(what: str, folder: Path, met) -> None:
    deadline = time.monotonic() + 30
    while not met():
        if time.monotonic() > deadline:
            logs = "\n".join(f"== {log}\n{log.read_text()}" for log in folder.glob("*.log"))
            raise AssertionError(f"no {what} after 30 s\n{logs}")
        time.sleep(0.1)


class Cluster:
    """A Slurm that runs, with its configuration, logs and sockets in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conf = folder / "etc" / "slurm.conf"

    def idle(self) -> bool:
        done = subprocess.run(
            ["sinfo", "--noheader", "--Node", "--states=idle"],
            env=os.environ | {"SLURM_CONF": str(self.conf)},
            capture_output=True,
            text=True,
            check=False,
        )
        return len(done.stdout.splitlines()) == len(NODES)

    def jobs(self) -> list[dict[str, str]]:
        """The jobs that ended, in Slurm's words."""
        lines = (self.folder / "jobs.txt").read_text().splitlines()
        return [dict(p.split("=", 1) for p in line.split() if "=" in p) for line in lines]


@pytest.fixture
def cluster(tmp_path) -> Iterator[Cluster]:
    assert not missing(), NEEDS
    folder = tmp_path / "slurm"
    for name in ("etc", "state", "spool"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().split(".")[0]
    port, *ports = free_ports(1 + len(NODES))
    nodes = [NODE_CONF.format(*node) for node in zip(NODES, ports, strict=True)]
    made = Cluster(folder)
    made.conf.write_text(
        "".join(nodes) + SLURM_CONF.format(host=host, port=port, folder=folder), encoding="utf-8"
    )
    names = "".join(f"127.0.0.1 {node}\n" for node in NODES)
    (folder / "hosts").write_text(Path("/etc/hosts").read_text() + names, encoding="utf-8")
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(128))
    settings = os.environ | {"SLURM_CONF": str(made.conf)}
    with ExitStack() as stack:
        munged = [
            "munged",
            "--foreground",
            "--force",  # pytest's folders are not as closed as munged wants the socket's to be
            f"--key-file={key}",
            f"--socket={folder}/munge.socket",
            f"--pid-file={folder}/munged.pid",
            f"--seed-file={folder}/munged.seed",
        ]
        with_output = {"stdout": stack.enter_context((folder / "daemons.log").open("w"))}
        with_output["stderr"] = subprocess.STDOUT
        stack.enter_context(process(*munged, **with_output))
        wait_until("munged", folder, (folder / "munge.socket").exists)
        stack.enter_context(process("slurmctld", "-D", "-i", env=settings, **with_output))
        for node in NODES:
            own = ["unshare", "--mount", "--uts", "--pid", "--mount-proc", "--kill-child"]
            script = NODE.format(node=node, folder=folder)
            stack.enter_context(process(*own, "bash", "-c", script, env=settings, **with_output))
        wait_until("idle nodes", folder, made.idle)
        yield made


def test_rules_run_as_jobs_and_a_failed_one_stops_only_what_needs_it(built, cluster, tmp_path):
    """One model trains to weights that the configuration does not name, the other one is exported.

    The same bytes come out as from a build without Slurm.
    """
    model = CONFIG[CONFIG.index("  digits_cnn:\n") : CONFIG.index("recipes:\n")]
    wrong = model.replace("digits_cnn:\n", "wrong:\n", 1)
    wrong = wrong.replace("{train: true}", f"{{train: true, sha256: '{'0' * 64}'}}")
    builds = "  - {models: [wrong], recipes: [fp16], targets: [ios16]}\n"
    config = CONFIG.replace("recipes:\n", f"{wrong}recipes:\n", 1) + builds
    project = Project(tmp_path / "project", config)
    done = project.snakemake(
        *("--profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "1"),
        "structure",
        prefix=("timeout", "--kill-after=10", "400"),
        SLURM_CONF=str(cluster.conf),
    )

    assert done.returncode == 1, done.stderr
    assert "FAILED  Training wrong: see logs/train/wrong.log" in done.stderr
    log = project.read("logs/train/wrong.log")
    assert log.startswith("error: ")
    assert f"expected sha256 {'0' * 64}" in log
    assert not (project.folder / "results/train/wrong.safetensors").exists()

    for name in ("train/digits_cnn.safetensors", "export/digits_cnn.json"):
        made = project.folder / "results" / name
        assert made.read_bytes() == (built.folder / "results" / name).read_bytes()

    jobs = cluster.jobs()
    assert {job["NodeList"] for job in jobs} <= set(NODES)
    # Rule train wants 500 MB, rule export one more for 0.3 MB of weights.
    train, export = "500M", "501M"
    states = [(job["JobState"], job["Tres"].split("mem=")[1].split(",")[0]) for job in jobs]
    assert {("COMPLETED", train), ("COMPLETED", export)} <= set(states), jobs
    # What fails is tried once more, with twice as much.
    assert [s for s in states if s[0] == "FAILED"] == [("FAILED", "500M"), ("FAILED", "1000M")]
