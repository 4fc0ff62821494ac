"""Default gates: what a build must meet if its config does not set a gate."""

from pte_foundry.config.gates import (
    AFFINE_SQNR,
    COMPRESSED_EQUAL_FRACTION,
    EQUAL_FRACTION,
    UNCOMPRESSED_SQNR,
    Gate,
)
from pte_foundry.config.recipes.base import BaseRecipe
from pte_foundry.config.targets import Target


def default_gates(
    recipe: BaseRecipe, target: Target, *, untrained: bool = False
) -> dict[str, Gate]:
    """Return the default gates: the SQNR of the strongest compression, no hazards, full delegation.

    Integer and boolean outputs, which have no SQNR, have a gate on the share of equal values. There
    is no gate on delegation if the target keeps operators out of the delegate on purpose.

    Gates on quality only warn of a model with random weights: its values are not those of a trained
    one (EfficientNet's logits are 1e-5, which fp16 has 8 bits for).
    """
    on_fail = "warn" if untrained else "fail"
    floors = list(recipe.sqnr_floors())
    if spec := target.op_linear_quantizer_config:
        floors.append(AFFINE_SQNR[spec.bits])
    precision = target.compute_precision
    equal = COMPRESSED_EQUAL_FRACTION if floors else EQUAL_FRACTION[precision]
    gates = {
        "sqnr_db": Gate(
            min=min([UNCOMPRESSED_SQNR[precision], *floors]), optional=True, on_fail=on_fail
        ),
        "equal_fraction": Gate(min=equal, optional=True, on_fail=on_fail),
        "hazards": Gate(max=0),
    }
    if not target.partitioner.skip_ops_for_coreml_delegation:
        gates["delegated_fraction"] = Gate(min=1.0)
    return gates
