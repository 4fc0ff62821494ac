"""Protects that the rules stay plannable for thousands of builds: short commands, few inputs."""

import subprocess
import sys

import pytest
from pte_foundry.bench import matrix

from tests.project import Project

pytestmark = pytest.mark.slow

OF_ALL_BUILDS = {"summary", "manifest"}
# At most: module, weights, data, program, modules, statistics, the step's file, the lock file, …
MOST_INPUTS = 12


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> Project:
    """A project with 100 builds, nothing built."""
    project = Project.__new__(Project)
    project.folder = tmp_path_factory.mktemp("many")
    matrix.make(project.folder, 100)
    return project


def test_commands_do_not_grow_with_the_number_of_builds(many):
    """A rule's command is one argument, of which Linux passes on 128 KiB."""
    done = subprocess.run(
        ["snakemake", "--dry-run", "--printshellcmds"],  # with its own messages: they hold commands
        cwd=many.folder,
        env=many.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    commands = [
        line for line in done.stdout.splitlines() if "python -P -m pte_foundry.steps." in line
    ]
    assert len(commands) > 300, done.stderr
    assert max(map(len, commands)) < 3_000
    for step in OF_ALL_BUILDS:
        (command,) = (
            line for line in commands if f"python -P -m pte_foundry.steps.{step} " in line
        )
        assert "/host.json" not in command
        assert ".pte" not in command


def test_jobs_have_few_inputs(built):
    """Snakemake looks at every input of every job: that was most of its time."""
    done = built.snakemake("--detailed-summary")
    header, *lines = (line.split("\t") for line in done.stdout.splitlines() if "\t" in line)
    inputs_of = {}
    for line in lines:
        row = dict(zip(header, line, strict=True))
        inputs_of[row["rule"]] = row["input-file(s)"].split(",")
    assert {"train", "convert", "lower", "pte", "validate", *OF_ALL_BUILDS} <= set(inputs_of)
    for rule, inputs in inputs_of.items():
        assert len(inputs) <= MOST_INPUTS or rule in OF_ALL_BUILDS, inputs
        assert any(name.startswith(f"scripts/pte_foundry/steps/{rule}") for name in inputs), inputs
        assert "envs/requirements.lock" in inputs or sys.platform == "darwin", inputs
