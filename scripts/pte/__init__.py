"""ExecuTorch programs (``.pte``): reading, canonical writing, inspecting, executing."""

from scripts.pte.execute import Pte

__all__ = ["Pte"]
