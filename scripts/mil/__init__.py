"""The reference interpreter for Core ML programs (MIL): runs an ``.mlpackage`` on any machine."""

from scripts.mil.program import Program

__all__ = ["Program"]
