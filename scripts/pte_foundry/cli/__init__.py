"""The ``pte-foundry`` command: everything a person does besides building."""

from pte_foundry.cli.main import main

__all__ = ["main"]
