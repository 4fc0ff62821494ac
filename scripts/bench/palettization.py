"""Finding one codebook table for a layer's weights with our k-means against upstream's."""

from collections.abc import Iterator
from functools import partial

from scripts.bench.measure import Comparison, Side, side_by_side

TITLE = "Palettization"
HOW = (
    "Seconds for one table over a whole weight, and the mean squared error of the weight restored "
    "from table and codes. Both sides are torchao's "
    "choose_qparams_and_quantize_codebook_coreml: as it is (scikit-learn's KMeans), and with "
    "scripts.quantize.codebook.kmeans as its solver. Weights are random with a fixed seed, "
    "heavy-tailed (Student's t, 5 degrees of freedom), in the shapes of real layers. Medians of up "
    "to 3 repetitions, fewer where one takes long."
)
LAYERS = {
    "MobileNetV2 1280×1000": (1280, 1000),
    "MiniLM 384×1536": (384, 1536),
    "SmolLM2 576×1536": (576, 1536),
}
BITS = (4, 6, 8)
DEGREES_OF_FREEDOM, SCALE, SEED = 5, 0.05, 0


def comparisons() -> Iterator[Comparison]:
    from scripts.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    # All of coremltools: loaded lean it does not find scikit-learn, which upstream's solver needs.
    import coremltools  # noqa: F401
    import numpy as np
    import torch
    from torchao.prototype.quantization.codebook_coreml import codebook_ops

    from scripts.quantize.codebook import solver

    choose = codebook_ops.choose_qparams_and_quantize_codebook_coreml
    one_table = [-1, -1]

    def ours(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
        with solver("exact", bits):
            return choose(weight, getattr(torch, f"uint{bits}"), one_table)

    def upstream(weight: torch.Tensor, bits: int) -> tuple[torch.Tensor, torch.Tensor]:
        return choose(weight, getattr(torch, f"uint{bits}"), one_table)

    def error(
        weight: torch.Tensor, bits: int, made: tuple[torch.Tensor, torch.Tensor]
    ) -> dict[str, float]:
        table, codes = made
        restored = codebook_ops.dequantize_codebook(codes.int(), table, bits, one_table)
        return {"squared_error": float(((restored.double() - weight.double()) ** 2).mean())}

    for first_use in (ours, upstream):  # what either imports when it is first called
        first_use(torch.arange(64.0).reshape(8, 8), 4)
    for layer, shape in LAYERS.items():
        random = np.random.default_rng(SEED).standard_t(DEGREES_OF_FREEDOM, size=shape)
        weight = torch.tensor(SCALE * random, dtype=torch.float32)
        for bits in BITS:
            fast, slow, made, expected = side_by_side(
                partial(ours, weight, bits), partial(upstream, weight, bits), repetitions=3
            )
            yield Comparison(
                f"{layer}, {bits} bits",
                Side("scripts.quantize.codebook.kmeans", fast, error(weight, bits, made)),
                Side("scikit-learn KMeans", slow, error(weight, bits, expected)),
            )
