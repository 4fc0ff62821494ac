"""Protects the fast import of coremltools: nothing is missing afterwards, nothing was wasted."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

PROGRAM = """
import sys
from pte_foundry.upstream.coremltools_imports import UNUSED, load_coremltools
load_coremltools()
assert "coremltools" in sys.modules
loaded = [name for name in UNUSED if name in sys.modules]
assert not loaded, loaded
import sklearn, transformers
load_coremltools()
assert sys.modules["sklearn"] is sklearn
from coremltools import converters
assert converters.convert
"""


def test_what_was_hidden_can_be_imported_afterwards():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
