"""A build that the tests of the fork server share: it loads the libraries once."""

import shutil

import pytest

from tests.unit.job.build import Build, connected


@pytest.fixture(scope="session")
def build(tmp_path_factory):
    """Its temporary folder has a path that is too long for AF_UNIX, and its first step stops
    before it sends a request. So every test shows that these two do not stop a build."""
    temporary = tmp_path_factory.mktemp("x" * 120)
    build = Build(tmp_path_factory.mktemp("build"), TMPDIR=str(temporary))
    with connected(build.sockets):
        yield build
    build.end()
    shutil.rmtree(temporary)
