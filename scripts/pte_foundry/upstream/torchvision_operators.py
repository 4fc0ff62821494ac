"""Makes torchvision importable next to a torch without CUDA, and gives it ``nms``.

Stands against: torch 2.13.0, torchvision 0.28.0
Repairs: ``torchvision/_meta_registrations.py``, which registers shape rules for ``nms`` and
    ``qnms`` without checking that they exist, and ``torchvision.ops.nms``, which needs a compiled
    kernel. torchvision's wheel links CUDA, so its compiled operators do not load next to a CPU
    torch; the rest of its import survives that.
Remove when: torchvision imports next to a CPU torch, or has a CPU wheel on the default index.

transformers and timm import torchvision when it is installed, and fail with it. The operators are
declared when torchvision is imported, and not before. The compiled operators that have no kernel
here (``deform_conv2d``, ``qnms`` …) still fail when they are called, and say so.

``envs/startup.py`` calls :func:`repaired_spec` in every Python of the environment. This file
imports torch only where it is needed, because finding torchvision must not import it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_library: torch.library.Library | None = None  # the declarations live as long as this object


class TorchvisionFinder:
    """Finds torchvision for an import, as :func:`repaired_spec` does."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        """Return the module's spec, or None if the next finder is to look for it."""
        return repaired_spec(path) if name == "torchvision" else None


def make_importable() -> None:
    """Repair torchvision when it is imported from now on, unless startup.py has seen to it."""
    finders = {getattr(finder, "__name__", None) for finder in sys.meta_path}
    if TorchvisionFinder.__name__ not in finders and "torchvision" not in sys.modules:
        sys.meta_path.insert(0, TorchvisionFinder)


def repaired_spec(path: Sequence[str] | None = None) -> ModuleSpec | None:
    """Return torchvision's spec, with a loader that declares the missing operators first."""
    spec = PathFinder.find_spec("torchvision", path)
    if spec is None or spec.loader is None:
        return spec
    execute = spec.loader.exec_module

    def exec_module(module: ModuleType) -> None:
        missing = declare_missing_operators(spec)
        execute(module)
        if missing:
            from torchvision.ops import boxes

            boxes._assert_has_ops = lambda: None  # nms alone calls it, and has a kernel now

    spec.loader.exec_module = exec_module
    return spec


def declare_missing_operators(torchvision: ModuleSpec) -> bool:
    """Declare ``torchvision::nms`` and ``qnms`` unless its own load; return whether they do not."""
    global _library
    import torch

    if _library is not None:
        return True
    compiled = PathFinder.find_spec("_C", torchvision.submodule_search_locations)
    try:
        if compiled is not None and compiled.origin is not None:
            torch.ops.load_library(compiled.origin)
            return False
    except OSError:
        pass
    _library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in SCHEMAS:
        _library.define(schema)
    _library.impl("nms", nms, "CPU")
    return True


def nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Return the indices of the boxes that no better one overlaps, the best first.

    As torchvision's ``csrc/ops/cpu/nms_kernel.cpp`` (0.28), with the same arithmetic.
    """
    import torch

    low, high = dets[:, :2], dets[:, 2:]
    areas = (high - low).prod(1)
    order = scores.argsort(descending=True, stable=True)
    kept = []
    while order.numel():
        best, rest = order[0], order[1:]
        sides = torch.minimum(high[best], high[rest]) - torch.maximum(low[best], low[rest])
        shared = sides.clamp(min=0).prod(1)
        overlap = shared / (areas[best] + areas[rest] - shared)
        kept.append(best)
        order = rest[~(overlap > iou_threshold)]  # that of empty boxes is nan: they are kept
    return torch.stack(kept) if kept else order
