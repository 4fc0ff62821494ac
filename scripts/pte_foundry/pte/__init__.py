"""Execution of ExecuTorch programs (``.pte``), Core ML delegates included, on any machine."""

from pte_foundry.pte.execute import Pte

__all__ = ["Pte"]
