"""Execution of ExecuTorch programs (``.pte``), Core ML delegates included, on any machine.

``execute`` is the interface and the loop over instructions, ``memory`` the planned memory,
``kernels`` the operators outside of delegates, ``delegate`` the Core ML models inside.
"""

from pte_foundry.pte.execute import Pte

__all__ = ["Pte"]
