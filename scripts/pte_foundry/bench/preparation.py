"""PT2E preparation with fast patterns against upstream's, and whether the results are equal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from pte_foundry.bench import networks
from pte_foundry.bench.measure import Comparison, Side, side_by_side

if TYPE_CHECKING:
    from torch.export import ExportedProgram
    from torch.fx import GraphModule

TITLE = "PT2E preparation"
HOW = (
    "Seconds to prepare an exported model for 8-bit quantization: "
    "pte_foundry.quantize.pt2e.prepare against upstream's prepare_pt2e with CoreMLQuantizer. Once "
    "each, ours first and with a cold cache, as in a build. same_annotations: every node has the "
    "same quantization annotation and is followed by the same observers. same_program: both, "
    "calibrated on the same samples by upstream's procedure (with fake quantization), convert to "
    "the same graph with bit-identical constants. Both quantize attention masks and "
    "positions too, which builds do not. Networks are those of config/models with random "
    "weights, which have no effect on the time; SmolLM2 with 4 of its 30 layers, and narrow ones."
)
NETWORKS: dict[str, Callable[[], Any]] = {
    "MobileNetV2": networks.mobilenet_v2,
    "Digits CNN": networks.digits_cnn,
    "MiniLM": networks.minilm,
    "SmolLM2": partial(networks.smollm2, layers=4, width=36, tokens=32, vocabulary=512),
}
SETTINGS = {
    "global_config": {
        "quantization_scheme": "symmetric",
        "weight_dtype": "qint8",
        "weight_per_channel": True,
        "activation_dtype": "quint8",
    }
}


def comparisons() -> Iterator[Comparison]:
    """Yields one for each network."""
    from pte_foundry.upstream.torchvision_operators import make_importable

    make_importable()
    import torch

    from pte_foundry.upstream import executorch_quantizer_patterns

    for title, make in NETWORKS.items():
        network, inputs = networks.with_random_weights(make)
        program = torch.export.export(network, inputs, strict=False)
        executorch_quantizer_patterns.forget()
        own, theirs, made, expected = side_by_side(
            partial(ours, program, SETTINGS),
            partial(upstreams, program, SETTINGS),
            repetitions=1,
        )
        yield Comparison(
            f"{title}, int8 static",
            Side("pte_foundry.quantize.pt2e.prepare", own),
            Side("prepare_pt2e, CoreMLQuantizer", theirs),
            same(made, expected, inputs),
        )


def ours(program: ExportedProgram, settings: dict[str, Any]) -> GraphModule:
    """Returns the program prepared by us, but with every operator quantized, as upstream does."""
    from pte_foundry.quantize import pt2e
    from pte_foundry.quantize.annotate import Quantizer

    class Everything(Quantizer):
        def quantizable(self, model: GraphModule) -> set[Any]:
            return set(model.graph.nodes)

    return pt2e.prepare(program, settings, Everything)


def upstreams(program: ExportedProgram, settings: dict[str, Any]) -> GraphModule:
    """Returns the program prepared by upstream, without our changes."""
    from coremltools.optimize.torch.quantization import LinearQuantizerConfig
    from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer
    from torchao.quantization.pt2e.quantize_pt2e import prepare_pt2e

    quantizer = CoreMLQuantizer(LinearQuantizerConfig.from_dict(settings))
    return prepare_pt2e(program.module(), quantizer)


def same(made: GraphModule, expected: GraphModule, inputs: tuple[Any, ...]) -> dict[str, bool]:
    """Returns whether two prepared modules, and the programs they convert to, are equal.

    The modules cannot be used afterwards.
    """
    from pte_foundry.bench import equality

    annotations = equality.annotations(made) == equality.annotations(expected)
    observers = equality.observers(made) == equality.observers(expected)
    ours, theirs = (converted(prepared, inputs) for prepared in (made, expected))
    return {
        "same_annotations": annotations and observers,
        "same_program": equality.calls(ours) == equality.calls(theirs)
        and equality.constants(ours) == equality.constants(theirs),
    }


def converted(prepared: GraphModule, inputs: tuple[Any, ...], samples: int = 4) -> ExportedProgram:
    """Returns the quantized program of a prepared module, calibrated by upstream's procedure.

    Samples are random, in the shapes and dtypes of ``inputs``.
    """
    import torch
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for _ in range(samples):
            prepared(*(_random(value, generator) for value in inputs))
    return torch.export.export(convert_pt2e(prepared), inputs)


def _random(like: Any, generator: Any) -> Any:
    """Random values in the shape and dtype of an input; integers (tokens, masks) are 0 or 1."""
    import torch

    if like.is_floating_point():
        return torch.randn(like.shape, generator=generator)
    return torch.randint(0, 2, like.shape, generator=generator).to(like.dtype)
