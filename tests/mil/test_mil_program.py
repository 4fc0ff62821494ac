"""Whole programs, built by coremltools, saved as packages and run: interface and checks."""

import json
import shutil

import numpy as np
import pytest
import torch
from pte_foundry.errors import InputError, ProgramError
from pte_foundry.mil import Program
from pte_foundry.upstream.coremltools_protobuf import Model_pb2

from tests.mil.mil_cases import HALF, INT, SINGLE, coremltools


def save(folder, function, opset="iOS18", **inputs):
    """Converts a function of coremltools' builder as it is, without passes, and saves it."""
    from coremltools.converters.mil.mil import Builder

    ct = coremltools()
    program = Builder.program(
        input_specs=list(inputs.values()), opset_version=getattr(ct.target, opset)
    )(function)
    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=getattr(ct.target, opset),
        pass_pipeline=ct.PassPipeline.EMPTY,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(folder))
    return folder


def spec(*shape, dtype="fp32"):
    from coremltools.converters.mil.mil import Builder, types

    return Builder.TensorSpec(shape, dtype=getattr(types, dtype))


def mb():
    from coremltools.converters.mil.mil import Builder

    return Builder


WEIGHT = np.arange(40, dtype=SINGLE).reshape(4, 10)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """x[1, 10] -> linear, relu; the weight is in the weight file."""

    def function(x):
        y = mb().linear(x=x, weight=WEIGHT, bias=np.full(4, -500, SINGLE), name="product")
        return mb().relu(x=y, name="out"), mb().identity(x=x, name="same")

    return save(tmp_path_factory.mktemp("small") / "m.mlpackage", function, x=spec(1, 10))


def parts(package):
    data = package / "Data" / "com.apple.CoreML"
    return (data / "model.mlmodel").read_bytes(), (data / "weights" / "weight.bin").read_bytes()


def changed(package, change):
    """The parts of a program after a change of its protobuf."""
    model, weights = parts(package)
    spec = Model_pb2.Model.FromString(model)
    function = spec.mlProgram.functions["main"]
    change(spec, function.block_specializations[function.opset])
    return spec.SerializeToString(), weights


X = np.ones((1, 10), SINGLE)


def test_runs_a_saved_package_and_describes_it(small):
    program = Program.load(small)
    main = program.functions["main"]
    assert [(i.name, str(i.type)) for i in main.inputs] == [("x", "fp32[1, 10]")]
    assert [(o.name, str(o.type)) for o in main.outputs] == [
        ("out", "fp32[1, 4]"),
        ("same", "fp32[1, 10]"),
    ]
    assert (program.specification_version, main.opset) == (9, "CoreML8")
    assert "fp32" in program.policy
    outputs = program.run({"x": X})
    assert list(outputs) == ["out", "same"]
    np.testing.assert_array_equal(outputs["out"], np.maximum(WEIGHT.sum(1) - 500, 0)[None])


def test_outputs_share_no_memory_and_a_second_run_gives_the_same(small):
    program, x = Program.load(small), X.copy()
    first = program.run({"x": x})
    first["same"][:] = 5
    assert (x == 1).all()
    np.testing.assert_array_equal(program.run({"x": x})["out"], first["out"])


def test_from_parts_is_load(small):
    outputs = Program.from_parts(*parts(small)).run({"x": X})
    np.testing.assert_array_equal(outputs["out"], Program.load(small).run({"x": X})["out"])


def test_taps_see_every_value_that_is_no_constant_and_operations_are_found_by_value(small):
    program, seen = Program.load(small), {}
    program.run({"x": X}, tap=lambda name, value: seen.update({name: value}))
    assert list(seen) == ["product", "out", "same"]
    operation = program.operation("out")
    assert (operation.op, operation.inputs) == ("relu", {"x": ("product",)})
    assert [o.op for o in program.operations()] == ["linear", "relu", "identity"]
    with pytest.raises(InputError, match="'nonsense'"):
        program.operation("nonsense")


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "missing input 'x', fp32\\[1, 10\\]"),
        ({"x": X, "y": X}, "unknown input 'y'"),
        ({"x": X.astype(HALF)}, "is float16\\[1, 10\\], expected fp32"),
        ({"x": X[:, :9]}, "is float32\\[1, 9\\], expected fp32\\[1, 10\\]"),
    ],
)
def test_wrong_inputs_are_named(small, inputs, message):
    with pytest.raises(InputError, match=message):
        Program.load(small).run(inputs)


def test_an_unknown_function_is_named(small):
    with pytest.raises(InputError, match="no function 'prefill'; there are main"):
        Program.load(small).run({"x": X}, function="prefill")


def test_all_unsupported_operations_come_in_one_error(small):
    def break_it(spec, block):
        block.operations[-1].type = "warp"
        block.operations[-2].type = "fold"
        block.operations.add(type="fold")

    with pytest.raises(ProgramError, match=r"fold \(iOS18\) x2, warp \(iOS18\) x1"):
        Program.from_parts(*changed(small, break_it))


def test_an_operation_newer_than_the_opset_is_unsupported(small):
    def backdate(spec, block):
        function = spec.mlProgram.functions["main"]
        function.opset = "CoreML5"
        function.block_specializations["CoreML5"].CopyFrom(block)
        function.block_specializations["CoreML5"].operations[-1].type = "reshape_like"

    with pytest.raises(ProgramError, match=r"reshape_like \(iOS15\) x1"):
        Program.from_parts(*changed(small, backdate))


def _declare(**changes):
    def change(spec, block):
        output = block.operations[-2].outputs[0].type.tensorType
        if "dtype" in changes:
            output.dataType = changes["dtype"]
        if "size" in changes:
            output.dimensions[1].constant.size = changes["size"]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_declare(size=5), r"relu 'out' gave 'out' as fp32\[1, 4\], the program declares .*1, 5"),
        (_declare(dtype=23), r"gave 'out' as fp32.*declares int32"),
    ],
)
def test_a_result_that_contradicts_the_program_is_an_error(small, change, message):
    program = Program.from_parts(*changed(small, change))
    with pytest.raises(ProgramError, match=message):
        program.run({"x": X})


def _rename_input(spec, block):
    block.operations[-2].inputs["x"].arguments[0].name = "nowhere"


def _extra_argument(spec, block):
    block.operations[-2].inputs["beta"].arguments.add(name="x")


def _drop_argument(spec, block):
    del block.operations[-2].inputs["x"]


def _absurd_size(spec, block):
    _declare(size=2**60)(spec, block)


def _other_file(spec, block):
    for operation in block.operations:
        for value in operation.attributes.values():
            if value.HasField("blobFileValue"):
                value.blobFileValue.fileName = "@model_path/../../secret"


def _twice(spec, block):
    block.operations.append(block.operations[-1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_rename_input, "relu 'out': the value 'nowhere' is not defined"),
        (_extra_argument, r"unknown arguments \['beta'\]"),
        (_drop_argument, r"missing arguments \['x'\]"),
        (_absurd_size, "exceeds"),
        (_other_file, "secret"),
        (_twice, "'same' is defined twice"),
    ],
)
def test_a_malformed_program_is_refused_at_load(small, change, message):
    with pytest.raises(ProgramError, match=message):
        Program.from_parts(*changed(small, change))


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ("", "malformed"),
        ("[]", "malformed"),
        ({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "../../x"}}}, "leaves"),
        ({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "/etc/x"}}}, "leaves"),
        ({"rootModelIdentifier": "a", "itemInfoEntries": {"a": {"path": "x"}}}, "no file"),
    ],
)
def test_a_bad_manifest_is_refused(small, tmp_path, manifest, message):
    package = tmp_path / "m.mlpackage"
    shutil.copytree(small, package)
    text = manifest if isinstance(manifest, str) else json.dumps(manifest)
    (package / "Manifest.json").write_text(text)
    with pytest.raises(ProgramError, match=message):
        Program.load(package)


def test_a_missing_weight_file_and_a_missing_package_are_refused(small, tmp_path):
    with pytest.raises(ProgramError, match=r"no weight\.bin"):
        Program.from_parts(parts(small)[0], None)
    with pytest.raises(ProgramError, match=r"not an \.mlpackage"):
        Program.load(tmp_path / "nothing")


def test_states_live_in_the_callers_arrays(tmp_path):
    def function(x, total):
        from coremltools.converters.mil.mil import Builder

        added = Builder.add(x=Builder.read_state(input=total), y=x, name="added")
        return Builder.mul(x=Builder.coreml_update_state(state=total, value=added), y=HALF(2),
                           name="out")  # fmt: skip

    from coremltools.converters.mil.mil import types

    package = save(
        tmp_path / "m.mlpackage",
        function,
        x=spec(2, dtype="fp16"),
        total=mb().StateTensorSpec((2,), dtype=types.fp16),
    )
    program, x = Program.load(package), np.array([1, 2], HALF)
    assert [s.name for s in program.functions["main"].states] == ["total"]
    with pytest.raises(InputError, match=r"missing state 'total'.*make_state"):
        program.run({"x": x})
    state, other = program.make_state(), program.make_state()
    program.run({"x": x}, state=state)
    assert program.run({"x": x}, state=state)["out"].tolist() == [4, 8]
    assert (state["total"].tolist(), other["total"].tolist()) == ([2, 4], [0, 0])


def test_nested_blocks_run_and_see_the_values_around_them(tmp_path):
    def function(x):
        from coremltools.converters.mil.mil import Builder

        offset = Builder.mul(x=x, y=SINGLE(10), name="offset")
        count, total = Builder.while_loop(
            _cond=lambda i, t: Builder.less(x=i, y=INT(3)),
            _body=lambda i, t: (Builder.add(x=i, y=INT(1)), Builder.add(x=t, y=offset)),
            loop_vars=(INT(0), x),
        )
        return Builder.cond(
            pred=Builder.equal(x=count, y=INT(3)),
            _true_fn=lambda: Builder.add(x=total, y=offset),
            _false_fn=lambda: Builder.identity(x=x),
            name="out",
        )

    program = Program.load(save(tmp_path / "m.mlpackage", function, x=spec(2)))
    outputs = program.run({"x": np.array([1, 2], SINGLE)})
    assert next(iter(outputs.values())).tolist() == [41, 82]


def test_compressed_weights_of_every_width_come_through_the_weight_file(tmp_path):
    """coremltools packs, we unpack: its own decompression is the oracle."""
    from coremltools.converters.mil.mil import types

    random, wanted = np.random.default_rng(0), {}

    def function(x):
        from coremltools.converters.mil.mil import Builder

        outputs = []
        for bits in (1, 2, 3, 4, 6, 8):
            kind = types.nptype_from_builtin(getattr(types, f"uint{bits}"))
            indices = random.integers(0, 2**bits, (6, 8)).astype(kind)
            tables = random.standard_normal((3, 1, 2**bits, 1)).astype(SINGLE)
            dense = Builder.constexpr_lut_to_dense(indices=indices, lut=tables, name=f"lut{bits}")
            wanted[f"lut{bits}"] = dense.op.materialized_val_inference()
            outputs.append(dense)
        data = random.integers(-8, 8, (6, 8)).astype(types.np_int4_dtype)
        scale = random.random((6, 2)).astype(SINGLE)
        dense = Builder.constexpr_blockwise_shift_scale(data=data, scale=scale, name="int4")
        wanted["int4"] = dense.op.materialized_val_inference()
        return [Builder.add(x=x, y=w, name=f"{w.op.name}_out") for w in [*outputs, dense]]

    program = Program.load(save(tmp_path / "m.mlpackage", function, x=spec(1)))
    outputs = program.run({"x": np.zeros(1, SINGLE)})
    assert len(outputs) == len(wanted) == 7
    for name, value in wanted.items():
        np.testing.assert_array_equal(outputs[f"{name}_out"], value)


def test_flexible_inputs_take_only_what_they_declare(tmp_path):
    ct = coremltools()

    class Double(torch.nn.Module):
        def forward(self, x):
            return x * 2

    traced = torch.jit.trace(Double(), torch.ones(1, 4))
    shapes = {
        "range": (ct.Shape((1, ct.RangeDim(2, 6, default=4))), r"1, 2\.\.6"),
        "listed": (ct.EnumeratedShapes([(1, 4), (1, 5)], default=(1, 4)), r"shapes \[1, 4\]"),
    }
    for name, (shape, message) in shapes.items():
        model = ct.convert(
            traced,
            inputs=[ct.TensorType("x", shape=shape)],
            minimum_deployment_target=ct.target.iOS17,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        )
        model.save(str(tmp_path / f"{name}.mlpackage"))
        program = Program.load(tmp_path / f"{name}.mlpackage")
        (output,) = program.run({"x": np.ones((1, 5), SINGLE)}).values()
        assert output.shape == (1, 5)
        with pytest.raises(InputError, match=message):
            program.run({"x": np.ones((1, 7), SINGLE)})


def test_damage_anywhere_gives_typed_errors_only(small):
    """A seeded sweep of flipped bytes and cut ends over the program and its weights."""
    model, weights = parts(small)
    random = np.random.default_rng(7)
    refused = 0
    for _ in range(10_000):
        damaged, blobs = bytearray(model), bytearray(weights)
        victim = damaged if random.random() < 0.8 else blobs
        for _ in range(random.integers(1, 4)):
            victim[random.integers(len(victim))] = random.integers(256)
        if random.random() < 0.1:
            del victim[random.integers(len(victim)) :]
        try:
            program = Program.from_parts(bytes(damaged), bytes(blobs))
            program.run({"x": X})
        except (ProgramError, InputError):
            refused += 1
    assert refused > 2000
