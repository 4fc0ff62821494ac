"""Imports coremltools 9.0 without the optional packages that it would import only to look at them.

``coremltools/_deps/__init__.py`` imports every package that it has a converter or a version check
for. Of these we use none but torch and executorch, and the others cost a third of the time that a
step needs before it starts. While coremltools is loaded they are hidden, which to it is the same as
their not being installed; afterwards they can be imported as ever.
"""

import importlib
import sys

UNUSED = ("sklearn", "libsvm", "xgboost", "tensorflow", "torchvision", "torchaudio", "transformers")


def load_coremltools() -> None:
    """Loads coremltools; does nothing if it is loaded already."""
    hidden = [name for name in UNUSED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None: an import of it fails as if it were missing
    try:
        importlib.import_module("coremltools")
    finally:
        for name in hidden:
            del sys.modules[name]
