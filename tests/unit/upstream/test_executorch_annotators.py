"""Protects that upstream's annotators apply one configuration to the nodes of our filter."""

import pytest
import torch
from executorch.backends.apple.coreml.quantizer import CoreMLQuantizer
from pte_foundry.bench.equality import annotations
from pte_foundry.quantize.annotate import Quantizer
from pte_foundry.upstream.executorch_annotators import annotate_patterns
from pte_foundry.upstream.executorch_quantizer_patterns import fast_patterns
from torch import nn

from tests.unit.upstream.source_digest import assert_source_digest


@pytest.mark.parametrize(
    ("method", "digest"),
    [
        ("annotate", "258b3d92448d4aefb5e235fdc4520231ba520419e8613cb5d6eb3e766bcb004c"),
        (
            "_annotate_all_patterns",
            "ff2898457fedd19a719730cfa41cf2b48741749225f0193315bd8d419e7fe3e5",
        ),
    ],
)
def test_upstream_is_what_was_read(method, digest):
    check = "Does `Quantizer.annotate` still apply the configurations in upstream's way?"
    assert_source_digest(getattr(CoreMLQuantizer, method), digest, check)


def test_the_filter_chooses_what_is_annotated():
    network = nn.Sequential(nn.Linear(4, 4), nn.Softmax(-1), nn.Linear(4, 4))
    model = torch.export.export(network, (torch.zeros(1, 4),)).module()
    quantizer = Quantizer({})
    config = quantizer.settings.upstream.global_config
    with fast_patterns(model):
        annotate_patterns(quantizer, model, config, lambda node: node.name != "linear")
    noted = {name for _, name, _, note in annotations(model) if note and note[0]}
    assert "linear_1" in noted
    assert "linear" not in noted
