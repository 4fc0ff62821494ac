"""Protects the debug info of Core ML models that methods share."""

import inspect

from executorch.backends.apple.coreml.compiler import CoreMLBackend


def test_upstream_drops_it():
    """If this fails: has a shared model the debug handles of its methods now? Then use them.

    ``tests/unit/lowering/test_methods.py`` shows the repair: values of every method have operators.
    """
    source = inspect.getsource(CoreMLBackend.preprocess_multimethod)
    assert "Debug info is not supported for multifunction models" in source
    assert "ct.utils.save_multifunction(desc, " in source, "which is where it is collected"
