"""Protects ``profiles/slurm``: on a real Slurm that enforces memory, up to the last artifact.

The cluster is Slurm from Debian: a controller and two nodes on this machine. Every node has its
own host name, processes and mounts, and all listen on 127.0.0.1 only.
"""

import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.project import CONFIG, Project

NODES = ("foundry1", "foundry2")
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

# `config_overrides` lets the nodes claim more than the machine has, `NoInAddrAny` keeps them to
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
{memory}
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
# By control groups of the kernel, as on real clusters; elsewhere Slurm itself looks every second,
# and counts memory that forks share once (PSS).
BY_KERNEL = """\
ProctrackType=proctrack/cgroup
TaskPlugin=task/cgroup"""
BY_SLURM = """\
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill,UsePss"""
CGROUP_CONF = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint=/sys/fs/cgroup
ConstrainRAMSpace=yes
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
def short_folder() -> Iterator[Path]:
    """Slurm's sockets lie in it: AF_UNIX takes 107 bytes, and pytest's folders have up to 100."""
    with tempfile.TemporaryDirectory(prefix="slurm-", dir="/tmp") as folder:
        yield Path(folder)


@pytest.fixture
def cluster(short_folder) -> Iterator[Cluster]:
    assert not missing(), NEEDS
    folder = short_folder
    for name in ("etc", "state", "spool"):
        (folder / name).mkdir(parents=True)
    host = socket.gethostname().split(".")[0]
    port, *ports = free_ports(1 + len(NODES))
    nodes = [NODE_CONF.format(*node) for node in zip(NODES, ports, strict=True)]
    made = Cluster(folder)
    controlled = all(
        os.access(f"/sys/fs/cgroup/{name}/cgroup.procs", os.W_OK) for name in ("memory", "freezer")
    )
    memory = BY_KERNEL if controlled else BY_SLURM
    text = SLURM_CONF.format(host=host, port=port, folder=folder, memory=memory)
    made.conf.write_text("".join(nodes) + text, encoding="utf-8")
    made.conf.with_name("cgroup.conf").write_text(CGROUP_CONF, encoding="utf-8")
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


MEMORY = re.compile(r"mem=(\d+)M")
HUNGRY = "import time; held = bytearray(200 << 20); time.sleep(3)"


def test_memory_is_enforced(cluster):
    """Else the test below would pass with any declaration."""
    settings = os.environ | {"SLURM_CONF": str(cluster.conf)}
    codes = [
        subprocess.run(
            ["srun", f"--mem={megabytes}M", sys.executable, "-c", HUNGRY],
            env=settings,
            capture_output=True,
            check=False,
        ).returncode
        for megabytes in (100, 400)
    ]
    assert codes[0] != 0
    assert codes[1] == 0


@pytest.fixture
def project(tmp_path) -> Project:
    """Two builds of one recipe, which share a job; one of them fails as long as a file exists."""
    builds = "builds:\n  - {models: [digits_cnn], recipes: [fp16], targets: [ios16, ios17_ne]}\n"
    made = Project(tmp_path / "project", CONFIG[: CONFIG.index("builds:\n")] + builds)
    made.replace(
        "scripts/pte_foundry/steps/pte.py",
        "    def step() -> None:\n",
        "    def step() -> None:\n"
        "        if Path('broken').exists() and 'ios17_ne' in arguments.output.name:\n"
        "            raise SystemExit('broken')\n",
    )
    made.write("broken", "")
    return made


def test_all_is_built_with_the_declared_memory_and_a_failed_step_stops_only_what_needs_it(
    built, cluster, project
):
    """The same bytes come out as from a build without Slurm, and jobs fill the cache."""
    cache = project.folder / "cache"
    cache.mkdir()

    def build():
        return project.snakemake(
            *("--profile", "profiles/slurm", "--cores", "1", "--cache"),
            *("--slurm-init-seconds-before-status-checks", "1"),
            prefix=("timeout", "--kill-after=10", "600"),
            SLURM_CONF=str(cluster.conf),
            SNAKEMAKE_OUTPUT_CACHE=str(cache),
        )

    done = build()
    assert done.returncode == 1, done.stderr
    told = [line for line in done.stderr.splitlines() if line.startswith("FAILED")]
    message = (
        "FAILED  digits_cnn/fp16/ios17_ne: pte failed: the step was ended by sys.exit('broken') in "
        "the code that it runs (log: logs/pte/digits_cnn/fp16/ios17_ne.log)"
    )
    logs = (project.folder / ".snakemake" / "slurm_logs").rglob("*.log")
    nodes = cluster.conf.parents[1].glob("slurmd.*.log")
    shown = "\n".join(f"== {file}\n{file.read_text()[-2000:]}" for file in (*logs, *nodes))
    assert set(told) == {message}, f"{done.stderr}\n{shown}"
    assert "broken" in project.read("logs/pte/digits_cnn/fp16/ios17_ne.log")
    assert "2 builds, 1 passed, 1 failed" in done.stderr
    # Only what failed is tried once more, with twice as much.
    jobs = [(job["JobState"], int(MEMORY.search(job["Tres"])[1])) for job in cluster.jobs()]
    (_, asked), again = [job for job in jobs if job[0] != "COMPLETED"]
    assert again == ("FAILED", 2 * asked)
    assert len(jobs) == len(("train", "model", "build", "build"))

    (project.folder / "broken").unlink()
    done = build()
    assert done.returncode == 0, done.stderr
    ended = cluster.jobs()[len(jobs) :]
    assert [job["JobState"] for job in ended] == ["COMPLETED"] * len(("build", "report"))
    assert {job["NodeList"] for job in cluster.jobs()} <= set(NODES)
    name = "results/pte/digits_cnn/fp16/ios16.pte"
    assert project.artifacts()[name] == built.artifacts()[name]
    assert len(project.artifacts()) == 2
    assert list(cache.glob("*_pte.pte")), "no lowered program"
    assert project.jobs() == set()
    # One server for the jobs of a group, and none for a job alone.
    logs = list((project.folder / "logs/fork_server").glob("*/*.log"))
    assert {log.name for log in logs} == {"building.log"}
