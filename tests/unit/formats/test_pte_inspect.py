"""Protects the read-back: what is in the bytes is reported, and every mismatch is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from pte_foundry.errors import ProgramError
from pte_foundry.formats import pte_schema
from pte_foundry.formats.inspect_pte import _decode, describe
from pte_foundry.formats.mil_contents import bits
from pte_foundry.formats.verify_pte import Expected, verify


def test_a_delegated_program(small, tmp_path: Path):
    path = tmp_path / "a.pte"
    path.write_bytes(small["first"])
    found = describe(path)
    assert found == describe(small["first"])
    [delegate] = found.delegates
    assert found.methods == ("forward",)
    assert found.bytes == len(small["first"])
    assert found.delegated_fraction == 1.0
    assert found.specification_version == 9
    assert found.kernels == {}
    assert found.states == ()
    assert found.ops["conv"] == found.ops["linear"] == found.ops["relu"] == 1
    assert "const" not in found.ops
    weights = 8 * 27 + 16 * 288 + 16  # the 8 biases of the convolution are too few for the file
    assert found.weight_bytes["float16"] in (2 * weights, 2 * (weights + 8))
    assert delegate.compute_dtypes == ("float16",)
    assert delegate.handles == 4
    assert delegate.compile_specs == {
        "compute_units": "all",
        "min_deployment_target": 9,
        "model_compute_precision": "float16",
        "model_type": "model",
    }
    assert found.to_dict()["specification_version"] == 9


def test_partly_delegated(small):
    found = describe(small["partial"])
    assert found.kernels == {"aten::relu.out": 1}
    assert found.delegated_fraction == pytest.approx(3 / 4)
    assert len(found.delegates) == 2
    assert describe(small["portable"]).delegated_fraction == 0.0


def test_state_and_shared_models(small, shared):
    assert len(describe(small["stateful"]).states) == 1
    found = describe(shared)
    assert found.methods == ("one", "two")
    assert [d.ops["conv"] for d in found.delegates] == [1, 1]
    assert found.delegates[0].identifier == found.delegates[1].identifier
    assert found.delegated_fraction == 1.0


def test_verify_accepts_what_was_asked_for(small):
    verify(describe(small["first"]), Expected(9, "float16", "all", "model", stateful=False))
    verify(describe(small["float32"]), Expected(7, "float32", "all", "model", stateful=False))
    verify(describe(small["stateful"]), Expected(stateful=True))
    verify(describe(small["partial"]), Expected())


def test_verify_lists_every_mismatch(small):
    expected = Expected(8, "float32", "cpu_only", "compiled_model", stateful=True)
    with pytest.raises(ProgramError) as caught:
        verify(describe(small["first"]), expected)
    for text in (
        "specification version 9, expected 8",
        "precision float16, expected float32",
        "computes in float16",
        "compute units all, expected cpu_only",
        "model type model, expected compiled_model",
        "no states, expected some",
    ):
        assert text in str(caught.value)
    with pytest.raises(ProgramError, match="computes in float32 only"):
        verify(describe(small["float32"]), Expected(precision="float16"))
    with pytest.raises(ProgramError, match="nothing is delegated"):
        verify(describe(small["portable"]), Expected())
    with pytest.raises(ProgramError, match="expected none"):
        verify(describe(small["stateful"]), Expected(stateful=False))


def test_compile_specs_are_decoded():
    def decode(key: str, value: bytes) -> object:
        return _decode(pte_schema.CompileSpec(key, memoryview(value)))

    assert decode("min_deployment_target", b"") is None
    assert decode("pass_pipeline", b'["a"]') == ["a"]
    assert decode("op_linear_quantizer_config", b'{"mode": 1}') == {"mode": 1}
    for key, value in [
        ("pass_pipeline", b"["),
        ("enumerated_shapes", b"3"),
        ("min_deployment_target", b"x"),
        ("compute_units", b"\xff"),
    ]:
        with pytest.raises(ProgramError, match=key):
            decode(key, value)


def test_bits_of_every_weight_type():
    known = {"float16": 16, "bfloat16": 16, "float8e4m3fn": 8, "int4": 4, "uint1": 1, "uint6": 6}
    assert {name: bits(name) for name in known} == known
    assert bits("string") == bits("unknown") == bits("bool") == 0
