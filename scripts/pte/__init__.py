"""ExecuTorch programs (``.pte``): reading, canonical writing, inspecting, executing."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from scripts.pte.execute import Pte

__all__ = ["Pte"]


def __getattr__(name: str) -> object:
    # Only executing needs torch; the steps that read and write programs start without it.
    if name == "Pte":
        from scripts.pte.execute import Pte

        return Pte
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
