"""Protects a build from other versions than the locked ones, which give other bytes in silence."""

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from pte_foundry import installed
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


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """Makes packages, ``name==version``, the installed ones."""

    def made(*packages):
        site = tmp_path / "site-packages"
        for package in packages:
            name, _, version = package.partition("==")
            (site / f"{name}-{version}.dist-info").mkdir(parents=True)
        monkeypatch.setattr(installed, "search_path", lambda: (str(site),))
        installed.distributions.cache_clear()
        return site

    yield made
    installed.distributions.cache_clear()


def test_this_environment_is_the_locked_one():
    """The packages that are patched are in the lock, and the tests run with all of its versions."""
    assert list(PINNED) == sorted(PINNED)
    assert set(PINNED) <= locked_versions(lock_file()).keys()
    assert_pinned()


def test_one_message_names_every_package_that_differs_with_both_versions(lock, environment):
    path = lock("torch==1.0.0 \\\n    --hash=x\nexecutorch==0.1\nsnakemake==9.27.1\nrich==1\n")
    environment("torch==2.13.0", "snakemake==9.27.1", "rich==2", "unlocked==3")
    with pytest.raises(UpstreamError) as raised:
        assert_pinned()
    message = str(raised.value)
    # What is patched first: it cannot be built with.
    assert (
        "executorch is not installed (locked: 0.1), torch 2.13.0 (locked: 1.0.0), "
        "rich 2 (locked: 1). Run `make`"
    ) in message
    assert "snakemake" not in message
    assert "unlocked" not in message  # a model that imports it has its files in its digests
    assert f"-r {path}" in message
    assert "FOUNDRY_LOCK" not in message  # no way out, with a package that is patched
    assert isinstance(raised.value, FoundryError)


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ("Ruamel.Yaml_clib==0.3", "ruamel-yaml-clib 0.3 (locked: 0.2)"),
        ("ruamel_yaml_clib==0.2+ours", "ruamel-yaml-clib 0.2+ours (locked: 0.2)"),
        ("unrelated==1", "ruamel-yaml-clib is not installed (locked: 0.2)"),
        ("ruamel_yaml_clib==0.2", None),
    ],
)
def test_a_package_that_may_write_no_bytes_counts_until_it_is_said_that_it_does_not(
    lock, environment, monkeypatch, there, told
):
    lock("ruamel.yaml.clib==0.2\n")
    environment(there)
    if told is None:
        assert_pinned()
        return
    with pytest.raises(UpstreamError) as raised:
        assert_pinned()
    assert told in str(raised.value)
    assert "set FOUNDRY_LOCK=off" in str(raised.value)
    monkeypatch.setenv("FOUNDRY_LOCK", "off")
    assert_pinned()


def test_no_word_lets_another_version_of_a_patched_package_pass(lock, environment, monkeypatch):
    lock("torch==1.0.0\n")
    environment("torch==1.0.1")
    monkeypatch.setenv("FOUNDRY_LOCK", "off")
    with pytest.raises(UpstreamError, match=r"torch 1\.0\.1"):
        assert_pinned()


def test_a_locked_package_from_a_folder_differs_whatever_its_version(lock, environment):
    """``pip install -e transformers``: its files can be edited, which its version does not tell."""
    lock("transformers==5.0\n")
    site = environment("transformers==5.0")
    origin = site / "transformers-5.0.dist-info" / "direct_url.json"
    origin.write_text('{"url": "file:///home/me/transformers", "dir_info": {"editable": true}}')
    with pytest.raises(UpstreamError, match=r"transformers 5\.0 from file:///home/me/transformers"):
        assert_pinned()
    origin.write_text('{"url": "file:///wheels/transformers-5.0-py3.whl", "archive_info": {}}')
    assert_pinned.cache_clear()
    assert_pinned()


def test_packages_that_were_added_count_by_a_lock_of_their_own(
    lock, environment, tmp_path, monkeypatch
):
    lock("torch==1.0.0\n")
    environment("torch==1.0.0", "timm==1.0.30")
    monkeypatch.setattr(versions, "extra_lock", lambda: tmp_path / "extra.lock")
    assert_pinned()
    (tmp_path / "extra.lock").write_text("timm==1.0.31 --hash=sha256:x\n")
    assert_pinned.cache_clear()
    with pytest.raises(UpstreamError, match=r"timm 1\.0\.30 \(locked: 1\.0\.31\)"):
        assert_pinned()


def test_packages_of_weights_may_be_missing_and_must_not_differ(lock, environment):
    """Only builds of their models need them, and the check of a config tells it."""
    path = lock("torch==1.0.0\nsome-weights==1.0\n")
    path.with_name("models.in").write_text("# weights\nSome.Weights==1.0\n")
    environment("torch==1.0.0")
    assert_pinned()
    environment("some_weights==2.0")
    assert_pinned.cache_clear()
    with pytest.raises(UpstreamError, match=r"some-weights 2\.0"):
        assert_pinned()


def test_the_lock_is_named_as_seen_from_the_project(lock, environment, tmp_path, monkeypatch):
    lock("torch==1.0.0\n")
    environment()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UpstreamError, match=r"the lock envs/requirements\.lock, .*-r envs/requir"):
        assert_pinned()


@pytest.mark.parametrize("locked", ["2.13.0", "2.13.0+cu130", "2.13.0+cpu"])
def test_a_build_for_another_processor_is_no_other_version(lock, environment, locked):
    """The CPU wheel of torch is 2.13.0+cpu, and gives the same bytes."""
    lock(f"torch=={locked}\n")
    environment("torch==2.13.0+cpu")
    assert_pinned()


def test_without_a_lock_there_is_nothing_to_compare(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "lock_file", lambda: tmp_path / "none.lock")
    monkeypatch.setattr(versions, "differences", lambda _: pytest.fail("looked"))
    assert_pinned()


def test_versions_are_compared_once_and_fast(monkeypatch):
    """As a step does it, which has its search path already: 10 ms on an idle machine."""
    monkeypatch.setattr(installed, "search_path", lambda: tuple(sys.path))
    installed.distributions.cache_clear()
    began = time.process_time()
    assert_pinned()
    assert time.process_time() - began < 0.1
    monkeypatch.setattr(versions, "lock_file", lambda: pytest.fail("compared again"))
    assert_pinned()


def test_nothing_heavy_is_imported_for_it():
    code = (
        "import sys; from pte_foundry.upstream.versions import PINNED, assert_pinned; "
        "assert_pinned(); assert not set(PINNED) & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_a_step_in_another_environment_does_nothing(lock, environment, capfd):
    """A cluster's node may have another environment than the machine that plans."""
    lock("torch==1.0.0\n")
    environment("torch==2.0.0")
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
