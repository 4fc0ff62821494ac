"""PT2E preparation with fast patterns against upstream's."""

from collections.abc import Iterator
from typing import Any

from scripts.bench.measure import Comparison, Side, side_by_side

TITLE = "PT2E preparation"
HOW = (
    "Seconds to prepare an exported model for 8-bit quantization: scripts.quantize.pt2e.prepare "
    "against prepare_pt2e with CoreMLQuantizer. Once each, ours first and without a warm cache, as "
    "in a build. same_graph: both insert the same observers at the same places. The model is "
    "torchvision's MobileNetV2 with random weights, which preparation does not look at."
)
SETTINGS = {
    "global_config": {
        "quantization_scheme": "symmetric",
        "weight_dtype": "qint8",
        "weight_per_channel": True,
        "activation_dtype": "quint8",
    }
}


def comparisons() -> Iterator[Comparison]:
    from scripts.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import torch
    from coremltools.optimize.torch.quantization import LinearQuantizerConfig
    from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e
    from torchvision.models import mobilenet_v2

    from scripts.quantize import pt2e

    model = mobilenet_v2(weights=None).eval()
    program = torch.export.export(model, (torch.zeros(1, 3, 224, 224),), strict=False)

    def ours() -> Any:
        return pt2e.prepare(program, SETTINGS)

    def upstream() -> Any:
        quantizer = CoreMLQuantizer(LinearQuantizerConfig.from_dict(SETTINGS))
        return prepare_pt2e(program.module(), quantizer)

    fast, slow, made, expected = side_by_side(ours, upstream, repetitions=1)
    yield Comparison(
        "MobileNetV2, int8 static",
        Side("scripts.quantize.pt2e.prepare", fast),
        Side("prepare_pt2e, CoreMLQuantizer", slow),
        {"same_graph": _outline(made) == _outline(expected)},
    )


def _outline(prepared: Any) -> list[tuple[Any, ...]]:
    """The operators and observers of a prepared module and what feeds each, without names."""
    modules = dict(prepared.named_modules(remove_duplicate=False))
    place = {node: number for number, node in enumerate(prepared.graph.nodes)}
    return [
        (
            node.op,
            type(modules[node.target]).__name__ if node.op == "call_module" else str(node.target),
            [place[source] for source in node.all_input_nodes],
        )
        for node in prepared.graph.nodes
    ]
