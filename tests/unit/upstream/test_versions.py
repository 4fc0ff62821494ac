"""Protects a build from other versions than the locked ones, which give other bytes in silence."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from pte_foundry.errors import FoundryError
from pte_foundry.job import command
from pte_foundry.lock import lock_file, locked_versions
from pte_foundry.upstream import versions
from pte_foundry.upstream.versions import PINNED, UpstreamError, assert_pinned, require

from tests.project import ROOT


@pytest.fixture(autouse=True)
def compare_again():
    assert_pinned.cache_clear()
    yield
    assert_pinned.cache_clear()


@pytest.fixture
def lock(tmp_path, monkeypatch):
    """Makes a lock of the given text the lock of the environment."""

    def made(text):
        path = tmp_path / "envs" / "requirements.lock"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        monkeypatch.setattr(versions, "lock_file", lambda: path)
        return path

    return made


def test_this_environment_is_the_locked_one():
    """The packages that are compared are in the lock, and the tests run with its versions."""
    assert list(PINNED) == sorted(PINNED)
    assert set(PINNED) <= locked_versions(lock_file()).keys()
    assert_pinned()


def test_one_message_names_every_package_that_differs_with_both_versions(lock, monkeypatch):
    path = lock("torch==1.0.0 \\\n    --hash=x\nexecutorch==0.1\nsnakemake==9.27.1\nrich==1\n")
    installed = {"torch": "2.13.0", "executorch": "", "snakemake": "9.27.1"}
    monkeypatch.setattr(versions, "_installed", installed.__getitem__)
    with pytest.raises(UpstreamError) as raised:
        assert_pinned()
    message = str(raised.value)
    assert "executorch is not installed (locked: 0.1), torch 2.13.0 (locked: 1.0.0)" in message
    assert "snakemake" not in message
    assert "rich" not in message  # not among those whose code is patched or writes bytes
    assert "Run `make`" in message
    assert f"-r {path}" in message
    assert isinstance(raised.value, FoundryError)


def test_the_lock_is_named_as_seen_from_the_project(lock, tmp_path, monkeypatch):
    lock("torch==1.0.0\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UpstreamError, match=r"the lock envs/requirements\.lock, .*-r envs/requir"):
        assert_pinned()


@pytest.mark.parametrize("locked", ["2.13.0", "2.13.0+cu130", "2.13.0+cpu"])
def test_a_local_label_is_no_other_version(lock, monkeypatch, locked):
    """The CPU wheel of torch is 2.13.0+cpu, and gives the same bytes."""
    lock(f"torch=={locked}\n")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.0+cpu")
    assert_pinned()
    monkeypatch.setattr("importlib.metadata.version", lambda _: "2.13.1+cpu")
    assert_pinned.cache_clear()
    with pytest.raises(UpstreamError, match=r"torch 2\.13\.1 \(locked: 2\.13\.0"):
        assert_pinned()


def test_without_a_lock_there_is_nothing_to_compare(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "lock_file", lambda: tmp_path / "none.lock")
    monkeypatch.setattr(versions, "_installed", lambda _: pytest.fail("looked"))
    assert_pinned()


def test_versions_are_compared_once_and_fast(monkeypatch):
    began = time.process_time()
    assert_pinned()
    assert time.process_time() - began < 0.2  # 7 ms on an idle machine
    monkeypatch.setattr(versions, "lock_file", lambda: pytest.fail("compared again"))
    assert_pinned()


def test_nothing_heavy_is_imported_for_it():
    code = (
        "import sys; from pte_foundry.upstream.versions import PINNED, assert_pinned; "
        "assert_pinned(); assert not set(PINNED) & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_step_in_another_environment_does_nothing(lock, capfd):
    """A cluster's node may have another environment than the machine that plans."""
    lock("torch==1.0.0\n")
    arguments = SimpleNamespace(log=None, benchmark=None)
    assert command.run(arguments, lambda: pytest.fail("ran")) == 1
    assert "(locked: 1.0.0)" in capfd.readouterr().err


def test_the_rules_compare_before_anything_else():
    rules = (ROOT / "rules" / "common.smk").read_text()
    assert "with refusals():\n    assert_pinned()\n" in rules
    assert rules.index("assert_pinned()") < rules.index("Config.parse(")


def function(a, b=1, *, c):
    """To be required."""


OWNER = SimpleNamespace(__name__="upstream.module", function=function)


def test_what_is_there_is_returned():
    assert require(OWNER, "function", "a b c", patch="p") is function
    assert require(OWNER, "function", patch="p") is function


@pytest.mark.parametrize(
    ("name", "parameters", "problem"),
    [
        ("function", "a b", r"upstream\.module\.function takes \(a b c\), not \(a b\)"),
        ("other", None, r"upstream\.module\.other does not exist"),
    ],
)
def test_what_has_changed_is_refused_with_the_name_of_the_patch(name, parameters, problem):
    with pytest.raises(UpstreamError, match=f"{problem}, but upstream_patch needs it"):
        require(OWNER, name, parameters, patch="upstream_patch")
