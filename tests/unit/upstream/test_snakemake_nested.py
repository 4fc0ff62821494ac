"""Protects a group's memory: its jobs run in turn, whatever the node has."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from pte_foundry.upstream.snakemake_nested import execute_in_turn
from pte_foundry.upstream.versions import UpstreamError

WORKFLOW = """\
from pte_foundry.upstream.snakemake_nested import execute_in_turn
{patch}

rule one:
    output: "{{name}}"
    shell:
        "test {{output}} != bad; echo begins >> log; sleep 0.7; echo ends >> log; touch {{output}}"
"""


def as_on_a_node(folder, patch, *names):
    """What jobs of a group do in the Snakemake that an executor starts on a node."""
    (folder / "Snakefile").write_text(WORKFLOW.format(patch=patch))
    command = [sys.executable, "-m", "snakemake", "--mode", "remote", "--executor", "local"]
    command += ["--cores", "2", "--no-hooks", "--nolock", "--target-jobs"]
    command += [f"one:name={name}" for name in names]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ("bad" not in names), done.stderr
    return done.stdout, (folder / "log").read_text().split()


def test_snakemake_still_runs_them_at_once(tmp_path):
    """If this fails, a group keeps to what it asked for: remove the patch."""
    assert as_on_a_node(tmp_path, "", "a", "b")[1] == ["begins", "begins", "ends", "ends"]


def test_they_run_in_turn_and_what_they_share_is_started_once(tmp_path):
    patch = "execute_in_turn(workflow, lambda: print('starts'))"
    printed, log = as_on_a_node(tmp_path, patch, "a", "b")
    assert log == ["begins", "ends", "begins", "ends"]
    assert printed.split().count("starts") == 1


def test_snakemake_still_stops_the_group_when_a_job_fails(tmp_path):
    """If this fails, it keeps going as the run does: remove that part of the patch."""
    (tmp_path / "log").touch()
    patch = "workflow.global_resources['_cores'] = 1"
    assert as_on_a_node(tmp_path, patch, "bad", "a", "b")[1].count("ends") < 2


def test_a_job_that_fails_stops_only_what_needs_it(tmp_path):
    patch = "execute_in_turn(workflow, lambda: None)"
    assert as_on_a_node(tmp_path, patch, "bad", "a", "b")[1].count("ends") == 2


def test_a_job_alone_shares_nothing(tmp_path):
    patch = "execute_in_turn(workflow, lambda: print('starts'))"
    assert "starts" not in as_on_a_node(tmp_path, patch, "a")[0]


def test_the_snakemake_that_plans_is_left_alone():
    planning = SimpleNamespace(remote_exec=False)
    execute_in_turn(planning, pytest.fail)
    assert vars(planning) == {"remote_exec": False}


def test_a_workflow_without_an_attribute_is_refused_with_the_name_of_the_file():
    with pytest.raises(UpstreamError, match=r"global_resources does not exist.*snakemake_nested"):
        execute_in_turn(SimpleNamespace(remote_exec=True), pytest.fail)
