"""Core ML's generated protobuf modules, without what ``import coremltools`` costs.

Stands against: coremltools 9.0
Uses: the folder ``coremltools/proto``, whose generated modules only import one another, relatively.
    It is loaded here as a package of its own under a private name: ``coremltools/__init__.py``
    imports every converter. Measured: 0.05 s instead of 7.6 s.
Remove when: ``import coremltools.proto`` does not load the converters.

Loading the modules a second time as ``coremltools.proto``, before or after, is harmless: protobuf's
descriptor pool accepts an identical file again and returns the same message classes.
"""

import sys
from importlib import util
from pathlib import Path
from types import ModuleType

from pte_foundry.errors import FoundryError

_ALIAS = "_coreml_proto"


def _load_proto_package() -> ModuleType:
    # find_spec of a top-level package locates it without running it.
    coremltools = util.find_spec("coremltools")
    if coremltools is None or coremltools.origin is None:
        raise FoundryError("coremltools is not installed; run `make` to create the environment")
    folder = Path(coremltools.origin).parent / "proto"
    spec = util.spec_from_file_location(
        _ALIAS, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    package = util.module_from_spec(spec)
    sys.modules[_ALIAS] = package
    spec.loader.exec_module(package)
    return package


_package = sys.modules.get(_ALIAS) or _load_proto_package()
FeatureTypes_pb2 = _package.FeatureTypes_pb2
MIL_pb2 = _package.MIL_pb2
Model_pb2 = _package.Model_pb2
