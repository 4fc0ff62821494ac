"""Makes torchvision importable next to a torch without CUDA.

Stands against: torch 2.13.0, torchvision 0.28.0
Repairs: ``torchvision/_meta_registrations.py``, which registers shape rules for ``nms`` and
    ``qnms`` without checking that they exist. torchvision's wheel links CUDA, so its compiled
    operators do not load next to a CPU torch; the rest of its import survives that.
Remove when: torchvision imports next to a CPU torch, or has a CPU wheel on the default index.

transformers imports torchvision when it is installed, and fails with it. Declaring the two
operators is enough for everything that does not call them; a call still fails for want of a kernel.
"""

from importlib.machinery import PathFinder
from importlib.util import find_spec

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_library: torch.library.Library | None = None  # the declarations live as long as this object


def declare_missing_operators() -> None:
    """Declare ``torchvision::nms`` and ``qnms``, unless torchvision is absent or its own load."""
    global _library
    package = find_spec("torchvision")
    if _library is not None or package is None or hasattr(torch.ops.torchvision, "nms"):
        return
    compiled = PathFinder.find_spec("_C", package.submodule_search_locations)
    try:
        if compiled is not None:
            torch.ops.load_library(compiled.origin)
    except OSError:
        compiled = None
    if compiled is None:
        _library = torch.library.Library("torchvision", "FRAGMENT")
        for schema in SCHEMAS:
            _library.define(schema)
