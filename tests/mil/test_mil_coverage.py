"""Every operation of coremltools runs at every opset, or is listed with a reason that holds.

Protects the claim that any ML program can be validated here: a new coremltools with new operations,
versions or parameters fails these tests before a user's program fails to load.
"""

import inspect
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from pte_foundry.mil import Program
from pte_foundry.mil.coverage import NOT_IMPLEMENTED, table
from pte_foundry.mil.registry import OPSETS, find
from pte_foundry.upstream.coremltools_protobuf import Model_pb2

from tests.mil.mil_cases import coremltools


@pytest.fixture(scope="module")
def registry():
    coremltools()
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    return SSAOpRegistry


def test_every_operation_runs_at_every_opset_or_has_a_reason():
    missing = {row.op: row.missing for row in table() if row.missing}
    assert missing == {}, f"{NOT_IMPLEMENTED}: {json.dumps(missing, indent=1)}"


def test_the_table_holds_what_coremltools_registers(registry):
    rows = {row.op: row for row in table()}
    assert set(rows) == set(registry.core_ops) | set(registry.dialect_ops)
    for op, definitions in registry.core_ops.items():
        assert {target.name for target in definitions} <= set(rows[op].versions)
    assert rows["gru"].family == "recurrent"
    assert rows["gru"].versions["iOS26"] == "iOS15"
    assert rows["non_maximum_suppression"].versions["iOS16"] == "iOS15"
    assert rows["non_maximum_suppression"].versions["iOS18"] == "iOS17"
    assert "iOS15" not in rows["fill_like"].versions


def test_our_opsets_are_those_that_coremltools_writes(registry):
    ct = coremltools()
    written = {
        ct._OPSET[target]: target.name for target in ct.target if target.name.startswith("iOS")
    }
    assert {name: opset for name, opset in written.items() if opset not in ("iOS13", "iOS14")} == (
        OPSETS
    )
    # The newest opset has no operations of its own in coremltools: it takes those before it.
    assert registry.SUPPORTED_OPSET_VERSIONS[-1].name == "iOS18"


# Python functions that coremltools builds nested blocks from. A program holds the blocks.
_BLOCKS = {"_cond", "_body", "_true_fn", "_false_fn", "_existing_blocks"}


def test_our_parameters_are_those_of_each_version(registry):
    """By name, and optional where coremltools' are. One function may serve several versions, so it
    may have parameters that only a newer version has; a program of the older one never holds them.
    """
    findings = []
    for op, definitions in registry.core_ops.items():
        later = {n: t for d in definitions.values() for n, t in d.input_spec.input_types.items()}
        for target, definition in definitions.items():
            kernel = find(op, target.name) if target.name in OPSETS.values() else None
            if kernel is None:
                continue
            theirs = definition.input_spec.input_types
            wanted = {n: t.optional for n, t in theirs.items() if n not in _BLOCKS}
            ours = {n: not p.required for n, p in kernel.parameters.items() if not p.implicit}
            ours = {n: o for n, o in ours.items() if n in theirs or n not in later}
            if ours != wanted:
                findings.append(f"{op} {target.name}: {ours}, coremltools has {wanted}")
            assert _BLOCKS.isdisjoint(theirs) != any(p.blocks for p in kernel.parameters.values())
    assert findings == []


def test_our_defaults_are_those_of_each_version(registry):
    """Ours is None where coremltools' takes the shape of other arguments: the function does so."""
    from coremltools.converters.mil.mil import types

    anything = SimpleNamespace(rank=4, shape=(1, 2, 3, 4), dtype=types.fp32, val=None)
    compared, findings = 0, []
    for op, definitions in registry.core_ops.items():
        for target, definition in definitions.items():
            kernel = find(op, target.name) if target.name in OPSETS.values() else None
            if kernel is None:
                continue
            operation = object.__new__(definition)
            for name in definition.input_spec.input_types:
                setattr(operation, name, anything)
            parameters = inspect.signature(kernel.run).parameters
            for name, wanted in definition.default_inputs(operation).items():
                ours = parameters[name].default
                if ours is None and isinstance(wanted, list | range | np.ndarray):
                    continue
                ours = ours.item() if isinstance(ours, torch.Tensor) else ours
                compared += 1
                if ours != wanted:
                    findings.append(f"{op} {target.name}: {name}={ours}, not {wanted}")
    assert compared > 400
    assert findings == []


def test_every_complex_operation_has_a_lowering_and_the_passes_are_in_the_pipeline(registry):
    from coremltools.converters.mil.mil.passes.defs.lower_complex_dialect_ops import LowerComplex
    from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipeline

    complex_ops = {op for op in registry.dialect_ops if op.startswith("complex")}
    assert complex_ops
    assert {op for op in complex_ops if not LowerComplex.has_lower_func(op)} == set()
    passes = set(PassPipeline.DEFAULT.passes)
    passes |= set(PassPipeline.get_pipeline("frontend_pytorch").passes)
    named = {row.versions["iOS18"] for row in table() if row.op in registry.dialect_ops}
    lowered = {reason.removeprefix("lowered by ") for reason in named if "lowered by" in reason}
    assert len(lowered) == 3
    assert lowered <= passes


class Dialects(torch.nn.Module):
    """What coremltools' torch frontend writes with dialect operations first."""

    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 1, 4, 4))

    def forward(self, x):
        self.total.add_(x)
        spectrum = torch.fft.fft(self.total.squeeze()).abs().reshape(1, 1, 4, 4)
        spectrum[:, :, 0] = 2.0
        return torch.nn.functional.interpolate(spectrum, scale_factor=2.0, mode="nearest")


def test_no_dialect_operation_reaches_a_program(registry, tmp_path):
    ct = coremltools()
    model = ct.convert(
        torch.jit.trace(Dialects(), torch.ones(1, 1, 4, 4)),
        inputs=[ct.TensorType("x", shape=(1, 1, 4, 4))],
        states=[ct.StateType(ct.TensorType(shape=(1, 1, 4, 4)), name="total")],
        minimum_deployment_target=ct.target.iOS18,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "m.mlpackage"))
    data = tmp_path / "m.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
    function = Model_pb2.Model.FromString(data.read_bytes()).mlProgram.functions["main"]
    written = {o.type for o in function.block_specializations[function.opset].operations}
    assert {"read_state", "write_state", "upsample_nearest_neighbor"} <= written
    assert written.isdisjoint(registry.dialect_ops)


class Spectrum(torch.nn.Module):
    def forward(self, x):
        return torch.fft.rfft(x).abs(), torch.fft.irfft(torch.fft.rfft(x))


def test_a_lowered_fourier_transform_runs(tmp_path):
    ct = coremltools()
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    model = ct.convert(
        torch.jit.trace(Spectrum(), x),
        inputs=[ct.TensorType("x", shape=(3, 8))],
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "m.mlpackage"))
    outputs = Program.load(tmp_path / "m.mlpackage").run({"x": x.numpy()})
    for got, want in zip(outputs.values(), Spectrum()(x), strict=True):
        torch.testing.assert_close(torch.from_numpy(got), want)
