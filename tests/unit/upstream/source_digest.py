"""Notices when the source of upstream changes that a patch was written against."""

import hashlib
import inspect
from typing import Any


def assert_source_digest(obj: Any, digest: str, check: str) -> None:
    """Fail if the source of ``obj`` is not the one that was read.

    Args:
        obj: a function, class or module.
        digest: SHA-256 of its source, in hexadecimal.
        check: what to check in the new source.
    """
    found = hashlib.sha256(inspect.getsource(obj).encode()).hexdigest()
    name = getattr(obj, "__qualname__", obj.__name__)
    assert found == digest, f"the source of {name} has changed to {found}. {check}"
