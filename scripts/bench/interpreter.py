"""Executing the bytes that ship against running the model in torch."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from scripts.bench.measure import Comparison, Side, side_by_side

TITLE = "Interpreter"
HOW = (
    "Seconds for one image [1, 3, 224, 224]: scripts.pte.Pte.run on an artifact of the default "
    "build against the eager fp32 module in torch, whose weights are random. Medians of 15 "
    "repetitions after 2 that do not count. load_s: reading the program; first_run_s: its first "
    "run, which decodes and checks the Core ML program. There is no upstream that executes Core ML "
    "programs on this machine, so the ratio says what interpreting costs. The program has batch "
    "normalization folded into its convolutions, which the module has not."
)
ARTIFACTS = {
    "MobileNetV2 fp32": "mobilenet_v2/fp32/ios18_fp32.pte",
    "MobileNetV2 fp16": "mobilenet_v2/fp16/ios18.pte",
}


def missing(pte: Path) -> list[str]:
    """Artifacts that are not below ``pte``, a folder such as ``results/pte``."""
    return [name for name in ARTIFACTS.values() if not (pte / name).is_file()]


def comparisons(pte: Path) -> Iterator[Comparison]:
    """Compares each artifact that exists below ``pte``."""
    from scripts.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import torch
    from torchvision.models import mobilenet_v2

    from scripts.pte import Pte

    model = mobilenet_v2(weights=None).eval()
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    for case, name in ARTIFACTS.items():
        if not (pte / name).is_file():
            continue
        began = time.perf_counter()
        program = Pte.load(pte / name)
        loaded = time.perf_counter()
        program.run([image])
        ran = time.perf_counter()
        with torch.no_grad():
            interpreted, eager, _, _ = side_by_side(
                partial(program.run, [image]), partial(model, image), repetitions=15, warm_ups=2
            )
        yield Comparison(
            case,
            Side("scripts.pte.Pte.run", interpreted),
            Side("eager torch, fp32", eager),
            {"load_s": loaded - began, "first_run_s": ran - loaded},
        )
