"""Whether a quantizer annotated a node.

Stands against: torchao 0.18.0
Uses: ``QuantizationAnnotation._annotated`` (``quantization/pt2e/quantizer/quantizer.py``), the only
    record of it; a comparison of two annotations without it would be incomplete.
Remove when: upstream gives the field a public name.
"""

from torchao.quantization.pt2e.quantizer import QuantizationAnnotation


def is_annotated(note: QuantizationAnnotation) -> bool:
    """Whether the node that carries this annotation counts as annotated."""
    return note._annotated
