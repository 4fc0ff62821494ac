"""Marks of tests that need what is not everywhere."""

import importlib.util
import sys

import pytest

NEEDS_TIMM = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None,
    reason="timm is not in the lock; echo timm > extra.in; make environment EXTRA=$PWD/extra.in",
)
NEEDS_DEV_FULL = pytest.mark.skipif(
    sys.platform != "linux", reason="/dev/full exists only on Linux"
)
