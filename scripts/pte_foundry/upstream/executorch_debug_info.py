"""Keeps the debug info of Core ML models that several methods share.

Stands against: executorch 1.5.1
Repairs: ``CoreMLBackend.preprocess_multimethod`` joins the models of methods into one and drops the
    debug handles of all ("debug info is not supported for multifunction models"), although each
    model has its own, and the values keep their names in the function of their method.
Remove when: a shared model has a ``debug_info.json`` with the handles of every method.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import coremltools
from executorch.backends.apple.coreml.compiler import CoreMLBackend

from pte_foundry.upstream.versions import require

DebugInfo = dict[str, list[dict[str, Any]]]
"""By method, the debug info of each of its delegates in turn, as ``debug_info.json`` has it."""

require(CoreMLBackend, "get_model_debug_info", "model_package_dir", patch=__name__)
require(coremltools.utils, "save_multifunction", patch=__name__)


@contextmanager
def kept_debug_info() -> Iterator[DebugInfo]:
    """Within this context the debug info of shared models is collected into what it gives."""
    found: DebugInfo = {}
    save = coremltools.utils.save_multifunction

    def save_multifunction(descriptor: Any, path: str) -> None:
        for method, (package, _) in descriptor._functions().items():
            info = CoreMLBackend.get_model_debug_info(Path(package))
            found.setdefault(method, []).append({} if info is None else asdict(info))
        save(descriptor, path)

    with patch.object(coremltools.utils, "save_multifunction", save_multifunction):
        yield found
