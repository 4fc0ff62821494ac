"""Protects files against a power cut, on a real file system that writes late.

The disk is a file. What ext4 has not written to it yet is lost in a copy of that file, as after a
power cut.
"""

import subprocess
import uuid
from pathlib import Path

import pytest
from pte_foundry.files import replacing, write_digest

CONTENT = b"weights" * 10_000


class Disk:
    """An ext4 file system in a file, mounted in ``folder``. It writes by itself after a minute."""

    def __init__(self, home: Path, image: Path) -> None:
        self.home, self.image = home, image
        self.folder = home / f"mounted-{uuid.uuid4()}"
        self.folder.mkdir()
        mount = ["mount", "-o", "loop,commit=60", image, self.folder]
        subprocess.run(mount, check=True, capture_output=True)

    def after_power_cut(self) -> "Disk":
        copy = self.home / f"{uuid.uuid4()}.img"
        subprocess.run(["cp", "--sparse=always", self.image, copy], check=True)
        return Disk(self.home, copy)


@pytest.fixture
def disk(tmp_path):
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", image], check=True, capture_output=True)
        yield Disk(tmp_path, image)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("making and mounting a file system is not allowed here")
    finally:
        for folder in tmp_path.glob("mounted-*"):
            subprocess.run(["umount", "--lazy", folder], check=False, capture_output=True)


def write(path: Path, *, durable: bool) -> None:
    with replacing(path, durable=durable) as temporary:
        temporary.write_bytes(CONTENT)


def test_a_durable_file_survives_and_another_may_be_lost(disk):
    """The second half shows that the disk does lose what nobody has waited for."""
    write(disk.folder / "results/pte/net/fp16/ios18.pte", durable=True)
    write_digest(disk.folder / "results/pte/net/fp16/ios18.pte.sha256", Path("ios18.pte"), "0" * 64)
    write(disk.folder / "results/later.json", durable=False)
    found = disk.after_power_cut().folder / "results"
    assert (found / "pte/net/fp16/ios18.pte").read_bytes() == CONTENT
    assert (found / "pte/net/fp16/ios18.pte.sha256").read_text() == f"{'0' * 64}  ios18.pte\n"
    assert not (found / "later.json").exists()


def test_a_durable_file_replaces_the_old_one_or_does_not(disk):
    path = disk.folder / "manifest.json"
    write(path, durable=True)
    with replacing(path, durable=True) as temporary:
        temporary.write_bytes(b"new")
        before = disk.after_power_cut().folder / "manifest.json"
        assert before.read_bytes() == CONTENT
    assert (disk.after_power_cut().folder / "manifest.json").read_bytes() == b"new"
