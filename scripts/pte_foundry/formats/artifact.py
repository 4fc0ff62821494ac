"""The ``.pte`` that ships: a lowered program with the compute units of its target, verified.

The bytes are read back and compared with the target, because upstream's own recipes (executorch
1.5) can lower for another target without a message.
"""

from pte_foundry.formats.canonical_pte import canonical_pte
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.formats.verify_pte import Expected, verify


def artifact(lowered: bytes, target: dict) -> bytes:
    """Write the artifact of a target.

    Args:
        lowered: a ``.pte`` in canonical form for the compute units "all".
        target: the target's slice of the config: ``compute_units``, ``specification_version``,
            ``compute_precision``, ``model_type``, ``states``.

    Returns the artifact's bytes, in canonical form.

    Raises ProgramError if the program is malformed or does not match ``target``.
    """
    # For "all" the lowered program is canonical already; rewriting it costs an import of exir.
    units = target["compute_units"]
    written = lowered if units == "all" else canonical_pte(lowered, units)
    expected = Expected(
        specification_version=target["specification_version"],
        precision=target["compute_precision"],
        compute_units=units,
        model_type=target["model_type"],
        # A target that allows states does not require any.
        stateful=None if target["states"] else False,
    )
    verify(describe(written), expected)
    return written
