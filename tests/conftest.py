"""The project that the slow tests share: built once, edited by each test in a copy."""

import shutil
from pathlib import Path

import pytest

from tests.project import Project


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Project:
    """The small configuration, built for real. Do not edit; take ``project``."""
    project = Project(tmp_path_factory.mktemp("built"))
    project.build()
    return project


@pytest.fixture
def project(built, tmp_path) -> Project:
    """A copy of the built project, with its results and Snakemake's records, to edit at will."""
    folder = tmp_path / "project"
    shutil.copytree(built.folder, folder, symlinks=True)
    copy = Project.__new__(Project)
    copy.folder = Path(folder)
    return copy
