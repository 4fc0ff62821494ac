"""Writes the artifact of a target: a lowered program with the target's compute units, checked.

The bytes are read back and compared with what the target requires, because upstream's own recipes
have been seen to lower for another target without a message.
"""

from pte_foundry.formats.canonical import canonical_pte
from pte_foundry.formats.inspect import Expected, describe, verify


def artifact(lowered: bytes, target: dict) -> bytes:
    """The artifact's bytes. Raises ProgramError if they are not what ``target`` asks for."""
    # Lowered programs are canonical already, for all units; rewriting one costs an import of exir.
    units = target["compute_units"]
    written = lowered if units == "all" else canonical_pte(lowered, units)
    expected = Expected(
        specification_version=target["specification_version"],
        precision=target["compute_precision"],
        compute_units=units,
        model_type=target["model_type"],
        # A target may allow states that the model has no use for.
        stateful=None if target["states"] else False,
    )
    verify(describe(written), expected)
    return written
