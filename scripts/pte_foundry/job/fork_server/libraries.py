"""The libraries that a fork server loads before it forks."""

from __future__ import annotations

import contextlib
import gc
import importlib
import json

from pte_foundry.errors import FoundryError
from pte_foundry.job.fork_server import BUILDING, EXECUTING
from pte_foundry.upstream.coremltools_imports import load_coremltools
from pte_foundry.upstream.versions import assert_pinned

# What the steps of a kind import; whatever else one of them needs it imports itself.
LOADED = {
    BUILDING: (
        "pte_foundry.lowering.edge_program",
        "pte_foundry.lowering.coreml",
        "pte_foundry.models.module",
        "pte_foundry.models.programs",
        "pte_foundry.formats.canonical_pte",
        "pte_foundry.quantize.pt2e",
        "pte_foundry.quantize.weight_only",
        "pte_foundry.models.tensors",
    ),
    EXECUTING: (
        "pte_foundry.mil",
        "pte_foundry.models.module",
        "pte_foundry.models.programs",
        "pte_foundry.pte.execute",
        "pte_foundry.formats.inspect_pte",
        "pte_foundry.models.tensors",
        "pte_foundry.validate.check",
        "pte_foundry.validate.report",
    ),
}


def load_kind(kind: str) -> None:
    """Imports what steps of a kind need."""
    if kind == BUILDING:
        load_coremltools()
    for name in LOADED[kind]:
        importlib.import_module(name)


def load(kind: str, libraries: str) -> None:
    """Imports what steps of a kind need, and what models import.

    Args:
        kind: one of ``KINDS``.
        libraries: JSON of :func:`pte_foundry.job.fork_server.start.merged`.
    """
    load_kind(kind)
    with contextlib.suppress(FoundryError):  # the steps report it
        assert_pinned()  # once here instead of 20 ms in every child
    from pte_foundry.upstream.torchvision_operators import make_importable

    make_importable()  # first: they may import torchvision or transformers
    for library, names in json.loads(libraries):
        with contextlib.suppress(Exception, SystemExit):  # the step that needs it reports it
            module = importlib.import_module(library)
            for name in names:
                getattr(module, name)
    gc.collect()
    gc.freeze()  # the children's collector leaves it alone, so its memory stays shared
