"""The ``recipes`` section: how a model is compressed.

To add a scheme: a subclass of ``BaseRecipe`` in a module of this package, an entry in ``SCHEMES``,
and a module of the same name in ``quantize/schemes``, which converts the model.
"""

from pte_foundry.config.base import by_key
from pte_foundry.config.recipes.base import BaseRecipe
from pte_foundry.config.recipes.none import NoneRecipe
from pte_foundry.config.recipes.pt2e import Pt2eRecipe
from pte_foundry.config.recipes.quantize import QuantizeRecipe

SCHEMES: dict[str, type[BaseRecipe]] = {
    "none": NoneRecipe,
    "pt2e": Pt2eRecipe,
    "quantize": QuantizeRecipe,
}
Recipe = by_key("scheme", SCHEMES)
