"""What tests of several packages share."""

import pytest


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """Snapshots by name, and a folder of images. Do not edit; take ``copied`` ones."""
    from tests.snapshots import write_snapshots  # imports torch

    root = tmp_path_factory.mktemp("snapshots")
    write_snapshots(root)
    return root
