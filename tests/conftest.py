"""The project that the slow tests share: built once, edited by each test in a copy."""

import pytest

from tests.project import Project, with_helper


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Project:
    """The small configuration, built for real. Do not edit; take ``project``."""
    project = with_helper(Project(tmp_path_factory.mktemp("built")))
    project.build()
    return project


@pytest.fixture
def project(built, tmp_path) -> Project:
    """A copy of the built project, with its results and Snakemake's records, to edit at will."""
    return built.copy(tmp_path / "project")
