"""Protects how operators are found by name and what is known of their arguments."""

import pytest
import torch
from pte_foundry.upstream.torch_operators import OpOverload, find, operator, schema


def test_an_operator_is_found_by_the_name_that_it_prints():
    for found in (torch.ops.aten.relu.default, torch.ops.aten.add.Tensor):
        assert operator(str(found)) is found
        assert isinstance(found, OpOverload)
    with pytest.raises(AttributeError):
        operator("aten.no_such.default")


def test_what_is_no_operator_is_not_found():
    assert find("aten", "add", "out") is torch.ops.aten.add.out
    assert find("aten", "no_such", "out") is None
    assert find("aten", "add", "no_such") is None
    assert find("aten", "add", "__class__") is None
    assert find("aten", "__class__", "default") is None


def test_the_schema_has_arguments_and_returns():
    signature = schema(torch.ops.aten.add.out)
    assert [argument.name for argument in signature.arguments] == ["self", "other", "alpha", "out"]
    assert [argument.is_out for argument in signature.arguments] == [False, False, False, True]
    assert len(signature.returns) == 1
