"""The reference interpreter for Core ML programs (MIL): runs an ``.mlpackage`` on any machine."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.mil.program import Program

__all__ = ["Program"]


def __getattr__(name: str) -> object:
    # Only executing needs torch; what reads a program's protobuf starts without it.
    if name == "Program":
        from scripts.mil.program import Program

        return Program
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
