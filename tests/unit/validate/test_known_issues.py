"""Protects the warnings about Apple's runtimes: found where they apply, silent elsewhere."""

import re
from types import SimpleNamespace

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import types
from pte_foundry.mil import Program
from pte_foundry.validate import known_issues
from pte_foundry.validate.known_issue_table import KNOWN_ISSUES

HALF = types.fp16
SPECIFICATIONS = {ct.target.iOS16: 7, ct.target.iOS17: 8, ct.target.iOS18: 9}


def program(folder, function, *shapes, target=ct.target.iOS18, dtype=HALF):
    specs = [mb.TensorSpec(shape, dtype) for shape in shapes]
    built = mb.program(specs, opset_version=target)(function)
    model = ct.convert(
        built,
        minimum_deployment_target=target,
        skip_model_load=True,
        pass_pipeline=ct.PassPipeline.EMPTY,
    )
    model.save(str(folder / "a.mlpackage"))
    return Program.load(folder / "a.mlpackage")


def issues(program, *, units="all", sources=(), ops=None, **described):
    delegate = SimpleNamespace(
        **{"states": (), "weight_bytes": {}, "compute_dtypes": ("float16",), **described},
        ops=ops or {},
        compile_specs={"compute_units": units},
        specification_version=program.specification_version,
    )
    description = SimpleNamespace(delegates=(delegate,), kernels={})
    return known_issues.find(description, {0: (program, "main", dict(sources))})


def convolution(*, kernel=(3, 3), channels=2, groups=1, rank=4, **settings):
    weight = np.ones((channels, channels // groups, *kernel), np.float16)
    arguments = {"weight": weight, "groups": groups, "pad_type": "custom", **settings}
    arguments.setdefault("pad", [0, 0] * len(kernel))
    return lambda x: mb.conv(x=x, **arguments, name="result")


def attention(q):
    return mb.scaled_dot_product_attention(query=q, key=q, value=q, name="result")


def matrix(x):
    shares = mb.softmax(x=x, axis=-1)
    return mb.matmul(x=x, y=shares, transpose_y=True, name="result")


# A function with its input, and the effects and sources that it must and must not match.
CASES = {
    "nonzero": (lambda x: mb.non_zero(x=x), (4, 4), ["crash ET #17537"]),
    "conv1d": (
        convolution(kernel=(6,), channels=4, groups=2, strides=[8], dilations=[2]),
        (2, 4, 11),
        ["crash ET #11688"],
    ),
    "conv1d without groups": (
        convolution(kernel=(6,), channels=4, strides=[8], dilations=[2]),
        (2, 4, 11),
        [],
    ),
    "even kernel": (
        convolution(kernel=(3, 2), pad=[1] * 4, strides=[2, 2]),
        (1, 2, 5, 5),
        ["wrong CT #2515"],
    ),
    "odd kernel": (convolution(pad=[1] * 4, strides=[2, 2]), (1, 2, 5, 5), []),
    "stride 5": (convolution(strides=[5, 5]), (1, 2, 15, 15), ["slow CT #2473"]),
    "attention": (attention, (2, 4, 8), ["wrong ET #15833"]),
    "large batch": (attention, (10, 4, 8), ["wrong CT #2650", "wrong ET #15833"]),
    "large head": (attention, (1, 2, 512), ["crash kasper0406", "wrong ET #15833"]),
    "transposed softmax": (matrix, (4, 4), ["crash ultralytics"]),
    "topk": (lambda x: mb.topk(x=x, k=2)[0], (4, 4), ["slow roboflow"]),
    "plain": (lambda x: mb.relu(x=x), (4, 4), []),
}


@pytest.mark.parametrize("name", CASES)
def test_conditions(name, tmp_path):
    function, shape, expected = CASES[name]
    found = issues(program(tmp_path, function, shape))
    assert len(found) == len(expected), found
    for issue, start in zip(found, expected, strict=True):
        assert f"{issue['effect']} {issue['source']}".startswith(start)


def test_compute_units_decide(tmp_path):
    loaded = program(tmp_path, attention, (10, 4, 8))
    by_units = {
        units: [issue["unit"] for issue in issues(loaded, units=units)]
        for units in known_issues.UNITS
    }
    assert by_units == {
        "all": ["gpu", "ne"],
        "cpu_only": [],
        "cpu_and_gpu": ["gpu"],
        "cpu_and_ne": ["ne"],
    }


def test_a_build_for_an_old_system_runs_on_new_ones_but_not_the_other_way_round(tmp_path):
    """ET #6984 ends with iOS 15; the attention of iOS 26 concerns a build for iOS 18."""
    (issue,) = issues(program(tmp_path, attention, (2, 4, 8)))
    assert issue["os"] == "iOS 26 and later"
    old = program(tmp_path, lambda x: mb.relu(x=x), (4,), target=ct.target.iOS15, dtype=types.fp32)
    assert [(i["effect"], i["os"]) for i in issues(old)] == [("crash", "before iOS 16")]


def test_only_data_of_a_gather_counts_not_its_indices(tmp_path):
    def narrowed(x, i):
        return mb.gather(x=mb.cast(x=x, dtype="int16"), indices=i, validate_indices=False)

    def indices(x, i):
        return mb.gather(x=x, indices=mb.cast(x=i, dtype="int16"), validate_indices=False)

    for function, expected in ((narrowed, ["gather"]), (indices, [])):
        loaded = program(tmp_path, function, (9,), (3,), dtype=types.int32)
        assert [issue["op"] for issue in issues(loaded)] == expected


def test_states_are_warned_about_as_a_whole(tmp_path):
    loaded = program(tmp_path, lambda x: mb.relu(x=x), (4,))
    found = issues(loaded, states=("cache",), ops={"constexpr_lut_to_dense": 1})
    assert [(i["op"], i["effect"]) for i in found] == [("*", "crash"), ("*", "refused")]
    assert issues(loaded, weight_bytes={"float16": 700_000_000})[0]["effect"] == "crash"


def test_operations_of_one_issue_are_one_warning(tmp_path):
    def five(x):
        for number in range(5):
            x = mb.topk(x=x, k=2, name=f"top{number}")[0]
        return x

    loaded = program(tmp_path, five, (4, 4))
    names = [operation.outputs[0].name for operation in loaded.operations()]
    sources = {name: f"aten.topk.default @ layer{i}" for i, name in enumerate(names)}
    (issue,) = issues(loaded, sources=sources)
    assert issue["count"] == 5
    assert issue["torch_source"].endswith("aten.topk.default @ layer2 and 2 more")


def test_quantization_outside_needs_its_kernels():
    kernels = {"quantized_decomposed::quantize_per_tensor.out": 2, "aten::add.out": 3}
    description = SimpleNamespace(delegates=(), kernels=kernels)
    (issue,) = known_issues.find(description, {})
    assert (issue["effect"], issue["count"]) == ("refused", 2)
    assert "kernels_quantized" in issue["condition"]


def test_every_entry_has_a_dated_source_and_says_what_it_is_about():
    assert len({entry.source for entry in KNOWN_ISSUES}) >= 25
    for entry in KNOWN_ISSUES:
        assert re.search(r"\(20\d\d|coremltools 9\.0", entry.source), entry.source
        assert entry.condition
        assert entry.units
