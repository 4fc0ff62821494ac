"""The declarations that make torchvision importable match torchvision's own schemas."""

import inspect

import pytest
import torch
from pte_foundry.upstream.torchvision_operators import SCHEMAS, declare_missing_operators


def test_torchvision_imports_and_a_call_without_a_kernel_fails_loudly():
    declare_missing_operators()
    from torchvision.extension import _has_ops
    from torchvision.ops import nms

    boxes, scores = torch.tensor([[0.0, 0.0, 1.0, 1.0]]), torch.ones(1)
    if _has_ops():
        assert nms(boxes, scores, 0.5).tolist() == [0]
    else:
        with pytest.raises(RuntimeError, match=r"custom C\+\+ ops"):
            nms(boxes, scores, 0.5)


def test_declaring_twice_is_harmless():
    declare_missing_operators()
    declare_missing_operators()
    for schema in SCHEMAS:
        operator = getattr(torch.ops.torchvision, schema.partition("(")[0])
        assert str(operator.default._schema) == f"torchvision::{schema}"


def test_schemas_have_the_parameters_of_torchvisions_shape_rules():
    """The compiled library does not load here and its text is scattered over machine code, so the
    shape rules that torchvision registers for the same operators are the witness."""
    declare_missing_operators()
    from torchvision import _meta_registrations as rules

    for rule, name in ((rules.meta_nms, "nms"), (rules.meta_qnms, "qnms")):
        schema = getattr(torch.ops.torchvision, name).default._schema
        assert [argument.name for argument in schema.arguments] == list(
            inspect.signature(rule).parameters
        )
        assert [str(argument.type) for argument in schema.arguments] == ["Tensor"] * 2 + ["float"]
        assert [str(result.type) for result in schema.returns] == ["Tensor"]
