"""The gates of a build whose config says nothing about them, from what is compressed and how."""

from pte_foundry.config.gates import Gate
from pte_foundry.config.parse import RecipeModel
from pte_foundry.config.recipes import PerGroup, Pt2eRecipe, QuantizeRecipe
from pte_foundry.config.targets import Target

# Lowest SQNR in dB (.pte against the fp32 reference) that a sound build of a real network reaches.
# Only a wrong program falls below these; a tighter, model-specific gate belongs in the config.
_UNCOMPRESSED = {"float32": 90.0, "float16": 45.0}
_STATIC_ACTIVATIONS = 12.0
_WEIGHTS = {
    ("affine", 8): 18.0,
    ("group", 4): 10.0,
    ("affine", 4): 5.0,
    ("lookup", 8): 25.0,
    ("lookup", 7): 22.0,
    ("lookup", 6): 16.0,
    ("lookup", 5): 15.0,
    ("lookup", 4): 10.0,
    ("lookup", 3): 3.0,
    ("lookup", 2): -3.0,
    ("lookup", 1): -5.0,
}


def default_gates(recipe: RecipeModel, target: Target) -> dict[str, Gate]:
    """Return the default gates: the SQNR of the strongest compression, no hazards, full delegation.

    There is no gate on delegation if the target keeps operators out of the delegate on purpose.
    """
    limits = [_UNCOMPRESSED[target.compute_precision]]
    limits += [_WEIGHTS[kind] for kind in _weight_kinds(recipe, target)]
    if recipe.calibrates:
        limits.append(_STATIC_ACTIVATIONS)
    gates = {"sqnr_db": Gate(min=min(limits)), "hazards": Gate(max=0)}
    if not target.partitioner.skip_ops_for_coreml_delegation:
        gates["delegated_fraction"] = Gate(min=1.0)
    return gates


def _weight_kinds(recipe: RecipeModel, target: Target) -> list[tuple[str, int]]:
    """Return every compression of weights as (kind, bits)."""
    kinds = [("affine", 8)] if isinstance(recipe, Pt2eRecipe) else []
    for step in recipe.steps if isinstance(recipe, QuantizeRecipe) else ():
        if step.codebook:
            kinds.append(("lookup", int(step.codebook.dtype.removeprefix("uint"))))
        else:
            bits = int(step.affine.weight_dtype.removeprefix("int"))
            grouped = bits == 4 and isinstance(step.affine.granularity, PerGroup)
            kinds.append(("group" if grouped else "affine", bits))
    if spec := target.op_linear_quantizer_config:
        kinds.append(("affine", int(spec.dtype.lstrip("uint"))))
    return kinds
