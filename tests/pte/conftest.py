"""Small programs, lowered once for all tests of this folder."""

from __future__ import annotations

import pytest
import torch

from tests.pte.programs import SMALL_INPUT, Counter, Small, lower, lower_portable


@pytest.fixture(scope="session")
def small() -> dict[str, bytes]:
    """The same small model, lowered in different ways."""
    return {
        "first": lower(Small(), SMALL_INPUT),
        "again": lower(Small(), SMALL_INPUT),
        "changed": lower(Small(bias=0.5), SMALL_INPUT),
        "float32": lower(Small(), SMALL_INPUT, system="iOS16", precision="float32"),
        "partial": lower(Small(), SMALL_INPUT, skip=["aten.relu.default"]),
        "inline": lower(Small(), SMALL_INPUT, extract_delegate_segments=False),
        "portable": lower_portable(Small(), SMALL_INPUT),
        "stateful": lower(Counter(), (torch.ones(4),)),
    }


@pytest.fixture(scope="session")
def shared() -> bytes:
    """Two methods whose delegates share one Core ML model."""
    import coremltools
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import to_edge_transform_and_lower

    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=coremltools.target.iOS18,
        compute_precision=coremltools.precision.FLOAT32,
    )
    programs = {
        name: torch.export.export(Small().eval(), (torch.ones(size, 3, 8, 8),))
        for name, size in (("one", 1), ("two", 2))
    }
    partitioners = {name: [CoreMLPartitioner(compile_specs=specs)] for name in programs}
    return to_edge_transform_and_lower(programs, partitioner=partitioners).to_executorch().buffer
