"""Protects builds without a shared file system: all results in an S3 bucket, none on this disk.

The server is a real one on 127.0.0.1, whose buckets are folders. It is killed in the middle.
"""

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from pte_foundry.files import read_json

from tests.project import CONFIG, Project

pytestmark = pytest.mark.slow

ONE = CONFIG[: CONFIG.index("builds:")] + (
    "builds:\n  - {models: [digits_cnn], recipes: [fp16], targets: [ios16]}\n"
)
IN_BUCKET = ("--default-storage-provider", "s3", "--default-storage-prefix", "s3://bucket/digits")
EXPORTED, TRAINED = "results/export/digits_cnn.pt2", "results/train/digits_cnn.safetensors"
ARTIFACT = "results/pte/digits_cnn/fp16/ios16.pte"
USE_OF_STORAGE = "(store output in storage|retrieve storage object from|check existence of)"
"""What Snakemake may be doing, in its words, when the server goes away."""


class Server:
    """An S3 server, whose objects stay when it is killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with socket.socket() as opened:
            opened.bind(("127.0.0.1", 0))
            self.port = opened.getsockname()[1]
        self.environment = {
            "SNAKEMAKE_STORAGE_S3_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "name",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }

    def start(self) -> None:
        command = [sys.executable, "-m", "localbucket", "--port", str(self.port), self.folder]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        wait_for(lambda: self.process.poll() is None and self._answers(), "the server")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def _answers(self) -> bool:
        with socket.socket() as opened:
            return opened.connect_ex(("127.0.0.1", self.port)) == 0


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come in {seconds} s"
        time.sleep(0.02)


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    started = Server(tmp_path / "buckets")
    started.start()
    yield started
    started.kill()


def test_a_build_goes_on_where_its_storage_went_away(tmp_path, server, built):
    project = Project(tmp_path / "project", ONE)
    bucket = server.folder / "bucket" / "digits"
    command = ["snakemake", "--logger", "foundry", "--cores", "2", *IN_BUCKET]
    with subprocess.Popen(
        command,
        cwd=project.folder,
        env=project.environment() | server.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    ) as build:
        wait_for(lambda: (bucket / EXPORTED).exists() or build.poll() is not None, EXPORTED)
        server.kill()
        told = build.communicate(timeout=300)[1]
    assert build.returncode == 1, told
    assert (bucket / EXPORTED).exists(), told
    assert re.search(f"Failed to {USE_OF_STORAGE} s3://bucket/digits/", told), told
    assert "Could not connect to the endpoint" in told
    assert "Traceback" not in told
    assert not (bucket / ARTIFACT).exists()

    down = project.snakemake(*IN_BUCKET, **server.environment)
    assert down.returncode == 1
    assert "the storage of the results cannot be used: s3://bucket/digits/" in down.stderr

    server.start()
    trained = (bucket / TRAINED).stat().st_mtime_ns
    done = project.build(*IN_BUCKET, **server.environment)
    told = done.stdout + done.stderr
    assert "Writing digits_cnn/fp16/ios16.pte" in told
    for first in ("Fetching", "Describing", "Planning", "Making"):
        assert first not in told, "its result is in the bucket"
    assert (bucket / TRAINED).stat().st_mtime_ns == trained

    made = sha256((bucket / ARTIFACT).read_bytes()).hexdigest()
    assert (bucket / f"{ARTIFACT}.sha256").read_text() == f"{made}  ios16.pte\n"
    assert (bucket / ARTIFACT).read_bytes() == built.artifacts()[ARTIFACT]
    manifest = read_json(bucket / "results/manifest.json")
    assert manifest["artifacts"][ARTIFACT]["sha256"] == made
    (record,) = read_json(bucket / "results/summary.json")["builds"]
    assert (record["sha256"], record["paths"]["pte"]) == (made, ARTIFACT)
    assert record["status"] == "pass"
    for path in filter(Path.is_file, bucket.glob("results/**/*")):
        assert b".snakemake/" not in path.read_bytes(), path

    left = [
        path for name in ("results", "benchmarks") for path in (project.folder / name).rglob("*")
    ]
    assert left == []
    copies = project.folder / ".snakemake" / "storage" / "s3" / "bucket" / "digits"
    assert not (copies / "results").exists()
