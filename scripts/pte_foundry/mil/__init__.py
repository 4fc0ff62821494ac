"""Reference interpreter of Core ML programs (MIL): executes an ``.mlpackage`` on any machine.

``program`` is the interface, ``build`` resolves a program's operations and constants, ``run`` loops
over them. ``ops`` computes: one function per operation, see there for how to add one.
``constant_pool`` explains how constants share memory.
"""

from pte_foundry.mil.program import Program

__all__ = ["Program"]
