"""The reference interpreter of Core ML programs (MIL): executes an ``.mlpackage`` on any machine."""

from pte_foundry.mil.program import Program

__all__ = ["Program"]
