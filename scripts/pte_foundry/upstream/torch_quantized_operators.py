"""Registers torch's operators ``torch.ops.quantized_decomposed``.

Stands against: torch 2.13.0
Uses: ``torch.ao.quantization.fx._decomposed``, which registers them when it is imported. Quantized
    programs contain them, so they must be there before such a program is read or executed.
Remove when: torch registers them by itself, or with a public import.
"""

import importlib


def register() -> None:
    """Make the operators available; does nothing if they are."""
    importlib.import_module("torch.ao.quantization.fx._decomposed")
