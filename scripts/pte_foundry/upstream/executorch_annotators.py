"""Annotates a model with one configuration of executorch's ``CoreMLQuantizer``.

Stands against: executorch 1.5.1
Uses: ``CoreMLQuantizer._annotate_all_patterns``
    (``backends/apple/coreml/quantizer/_coreml_quantizer.py``), with a filter of our own:
    ``CoreMLQuantizer.annotate`` takes none, and its own filters never match an exported program.
Remove when: upstream's filters by type and by name match programs of ``torch.export``
    (``tests/unit/quantize/test_quantize_upstream.py`` fails then).
"""

from collections.abc import Callable

from coremltools.optimize.torch.quantization import ModuleLinearQuantizerConfig
from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer
from torch.fx import GraphModule, Node

from pte_foundry.upstream.versions import require

require(
    CoreMLQuantizer,
    "_annotate_all_patterns",
    "self model quantization_config filter_fn",
    patch=__name__,
)


def annotate_patterns(
    quantizer: CoreMLQuantizer,
    model: GraphModule,
    config: ModuleLinearQuantizerConfig | None,
    applies_to: Callable[[Node], bool],
) -> None:
    """Annotate every recognised pattern of ``model`` whose nodes ``applies_to`` accepts.

    Args:
        quantizer: an instance of upstream's class.
        model: the graph; its nodes receive annotations.
        config: what to annotate; None leaves the patterns unquantized.
        applies_to: returns whether a node of a pattern belongs to this configuration.
    """
    quantizer._annotate_all_patterns(model, config, applies_to)
