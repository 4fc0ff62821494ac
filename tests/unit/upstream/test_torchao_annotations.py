"""Protects the comparison of two annotations: whether a node is annotated is part of it."""

import dataclasses

import pytest
from pte_foundry.upstream.torchao_annotations import is_annotated
from torchao.quantization.pt2e.quantizer import QuantizationAnnotation


@pytest.mark.parametrize("annotated", [False, True])
def test_an_annotation_counts_or_not(annotated):
    assert is_annotated(QuantizationAnnotation(_annotated=annotated)) is annotated


def test_an_annotation_has_no_field_that_the_comparison_leaves_out():
    """See ``pte_foundry.bench.equality``."""
    assert {field.name for field in dataclasses.fields(QuantizationAnnotation)} == {
        "input_qspec_map",
        "output_qspec",
        "allow_implicit_sharing",
        "_annotated",
    }
