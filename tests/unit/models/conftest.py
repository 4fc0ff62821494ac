"""What the tests of models share."""

import pytest
from pte_foundry.config.models import origin_file
from pte_foundry.models import snapshots
from pte_foundry.models.module import ModelModule


@pytest.fixture
def load(tmp_path):
    """Loads a model of an origin; from a folder, its snapshot or data."""

    def load(folder=None, *, kind="hf", weights=None, data=(), seed=None, module=None, **options):
        if folder is not None:
            archive = tmp_path / "folder.zip"
            snapshots.pack(folder, archive)
            weights = archive if seed is None else weights
        data = dict(data) | ({"snapshot": archive} if seed is not None and folder else {})
        origin = {"kind": kind, "architecture": options.pop("architecture", None)}
        file = module or origin_file(kind)
        return ModelModule.load(file, weights, data, options, seed=seed, origin=origin)

    return load
