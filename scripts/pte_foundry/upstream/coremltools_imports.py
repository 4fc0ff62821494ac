"""Imports coremltools without the optional packages that it imports only to look for them.

Stands against: coremltools 9.0
Repairs: ``coremltools/_deps/__init__.py``, which imports every package that it has a converter or a
    version check for. Nothing here needs others than torch, executorch and torchao; the rest takes
    a third of the time that a step needs to start.
Remove when: upstream looks for optional packages without importing them.

While coremltools is loaded the packages are hidden, so that it takes them for not installed;
afterwards they can be imported.
"""

import importlib
import sys

UNUSED = ("sklearn", "libsvm", "xgboost", "tensorflow", "torchvision", "torchaudio", "transformers")


def load_coremltools() -> None:
    """Import coremltools; does nothing if it is imported already."""
    hidden = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None: an import of it fails as if it were missing
    try:
        importlib.import_module("coremltools")
    finally:
        for name in hidden:
            del sys.modules[name]
