"""Default gates: what a build must meet if its config does not set a gate."""

from pte_foundry.config.gates import AFFINE_SQNR, UNCOMPRESSED_SQNR, Gate
from pte_foundry.config.recipes.base import BaseRecipe
from pte_foundry.config.targets import Target


def default_gates(recipe: BaseRecipe, target: Target) -> dict[str, Gate]:
    """Return the default gates: the SQNR of the strongest compression, no hazards, full delegation.

    There is no gate on delegation if the target keeps operators out of the delegate on purpose.
    """
    floors = [UNCOMPRESSED_SQNR[target.compute_precision], *recipe.sqnr_floors()]
    if spec := target.op_linear_quantizer_config:
        floors.append(AFFINE_SQNR[spec.bits])
    gates = {"sqnr_db": Gate(min=min(floors)), "hazards": Gate(max=0)}
    if not target.partitioner.skip_ops_for_coreml_delegation:
        gates["delegated_fraction"] = Gate(min=1.0)
    return gates
