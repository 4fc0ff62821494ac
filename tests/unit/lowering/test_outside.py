"""Protects what stays outside of Core ML: it is what was asked for, and a device can run it.

Programs are lowered and executed; a skip list must not change what they compute.
"""

import json

import pytest
import torch
import torch.nn.functional as F
from executorch.exir import EdgeCompileConfig, to_edge
from pte_foundry.errors import ConfigError
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.lowering import coreml, edge_program
from pte_foundry.lowering.outside import MissingKernelError
from pte_foundry.pte import Pte
from pte_foundry.upstream.executorch_kernels import framework
from torch import nn

TARGET = {
    "specification_version": 9,
    "compute_precision": "float32",
    "model_type": "model",
    "op_linear_quantizer_config": None,
    "pass_pipeline": None,
    "enumerated_shapes": None,
    "multimethod_weight_sharing_strategy": None,
}
OPTIONS = {
    "take_over_mutable_buffer": True,
    "take_over_constant_data": True,
    "lower_full_graph": False,
}


class Net(nn.Module):
    def __init__(self, function, *modules):
        super().__init__()
        self.function = function
        self.layers = nn.ModuleList(modules)

    def forward(self, *inputs):
        return self.function(*self.layers, *inputs)


def lower(module, inputs, skip, folder, precision="float32"):
    program = torch.export.export(module.eval(), inputs)
    edge = edge_program.make(program, skip)
    metadata = json.loads(json.dumps(edge_program.save(edge, folder / "edge.pt2")))
    options = OPTIONS | {"skip_ops_for_coreml_delegation": skip}
    target = TARGET | {"compute_precision": precision, "partitioner": options}
    return coreml.lower(edge_program.load(folder / "edge.pt2", metadata), target)


def kernels_and_error(module, inputs, skip, folder, precision="float32"):
    written = lower(module, inputs, skip, folder, precision)
    (out, *_), expected = Pte.load(written).run(inputs), module(*inputs)
    expected = expected[0] if isinstance(expected, tuple) else expected
    kernels = describe(written).kernels
    assert all(framework(kernel) for kernel in kernels)
    return kernels, float((out.double() - expected.double()).abs().max())


IMAGE, ROWS = torch.randn(1, 4, 6, 6), torch.randn(2, 5, 8)
CONVOLUTION = nn.Conv2d(4, 4, 3, padding=1)
LINEAR = nn.Linear(8, 8)
# What is skipped, in which network, and a kernel that must then run outside.
SKIPPED = {
    "conv2d": (Net(lambda c, x: c(x).relu(), CONVOLUTION), IMAGE, "aten::convolution.out"),
    "convolution": (Net(lambda c, x: c(x).relu(), CONVOLUTION), IMAGE, "aten::convolution.out"),
    "linear": (Net(lambda c, x: c(x).relu(), LINEAR), ROWS, "aten::linear.out"),
    "addmm": (Net(lambda c, x: c(x).relu(), LINEAR), ROWS[0], "aten::addmm.out"),
    "scaled_dot_product_attention": (
        Net(lambda c, x: F.scaled_dot_product_attention(c(x), x, x), LINEAR),
        ROWS[None],
        "aten::bmm.out",
    ),
    "layer_norm": (
        Net(lambda n, x: n(x).relu(), nn.LayerNorm(8)),
        ROWS,
        "aten::native_layer_norm.out",
    ),
    "batch_norm": (
        Net(lambda c, n, x: n(c(x)), CONVOLUTION, nn.BatchNorm2d(4)),
        IMAGE,
        "aten::_native_batch_norm_legit_no_training.out",
    ),
    "hardswish": (Net(lambda c, x: F.hardswish(c(x)), LINEAR), ROWS, "aten::clamp.out"),
    "silu": (Net(lambda c, x: F.silu(c(x)), LINEAR), ROWS, "aten::sigmoid.out"),
    "max_pool2d": (
        Net(lambda c, x: F.max_pool2d(c(x), 2, return_indices=True)[0], CONVOLUTION),
        IMAGE,
        "aten::max_pool2d_with_indices.out",
    ),
}
NAMES = {
    "max_pool2d": "aten.max_pool2d_with_indices.default",
    "hardswish": "aten.HardSwish.default",  # upper and lower case are the same
}


@pytest.mark.parametrize("name", SKIPPED)
def test_what_is_skipped_runs_outside_and_computes_the_same(name, tmp_path):
    network, inputs, kernel = SKIPPED[name]
    skip = [NAMES.get(name, f"aten.{name}.default")]
    kernels, error = kernels_and_error(network, (inputs,), skip, tmp_path)
    assert kernel in kernels
    assert error < 1e-5


def test_upsampling_and_embeddings_in_fp16(tmp_path):
    network = Net(
        lambda e, c, i: F.interpolate(c(e(i)[None]), scale_factor=2, mode="bilinear"),
        nn.Embedding(9, 6),
        nn.Conv2d(1, 2, 3),
    )
    skip = ["aten.upsample_bilinear2d.vec", "aten.embedding.default", "aten.conv2d.default"]
    index = torch.tensor([[3, 1, 4, 1, 5, 8]])
    kernels, error = kernels_and_error(network, (index,), skip, tmp_path, "float16")
    outside = {"aten::upsample_bilinear2d.vec_out", "aten::embedding.out", "aten::convolution.out"}
    assert outside <= set(kernels)
    assert error < 1e-2


def test_all_operators_of_a_model_may_be_skipped(tmp_path):
    network = nn.Sequential(nn.Conv2d(4, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    skip = [f"aten.{name}" for name in ("conv2d.default", "relu.default", "linear.default")]
    skip.append("aten.flatten.using_ints")
    written = lower(network, (IMAGE,), skip, tmp_path)
    assert describe(written).delegated_fraction == 0
    (out,) = Pte.load(written).run((IMAGE,))
    torch.testing.assert_close(out, network(IMAGE))


@pytest.mark.parametrize(
    ("function", "kernel"),
    [
        (lambda x: torch.add(x.relu(), x, alpha=2), "aten::add.out"),
        (lambda x: x.relu().argmax(), "aten::argmax.out"),
        (lambda x: (x.relu() + 1).acosh(), "aten::acosh.out"),
    ],
)
def test_what_the_partitioner_rejects_runs_outside(function, kernel, tmp_path):
    kernels, error = kernels_and_error(Net(function), (ROWS,), [], tmp_path)
    assert list(kernels) == [kernel]
    assert error < 1e-5


class Pool(nn.Module):
    def __init__(self):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool3d(2)

    def forward(self, x):
        return self.pool(x.relu())


VOLUME = torch.randn(1, 2, 4, 4, 4)


def test_a_kernel_that_the_runtime_lacks_is_refused(tmp_path):
    """The message names the kernel, the operator with its module, and the way out."""
    with pytest.raises(MissingKernelError) as refusal:
        lower(Pool(), (VOLUME,), [], tmp_path)
    message = str(refusal.value)
    assert "aten::_adaptive_avg_pool3d.out" in message
    assert "aten.adaptive_avg_pool3d.default @ pool at test_outside.py:" in message
    assert "use operators in the model that" in message


@pytest.mark.parametrize(
    ("network", "inputs", "operator"),
    [
        (Net(lambda x: torch.exp2(x.relu())), ROWS, "aten.exp2.default"),
        (Net(lambda x: torch.sort(x.relu())[0]), ROWS, "aten.sort.default"),
        (Net(lambda c, x: c(x).relu(), nn.Conv3d(2, 2, 3)), VOLUME, "aten.conv3d.default"),
    ],
)
def test_what_cannot_be_skipped_is_refused(network, inputs, operator, tmp_path):
    """The runtime has no such kernel, or (Conv3d) only one of a lower rank."""
    with pytest.raises(MissingKernelError, match=operator) as refusal:
        lower(network, (inputs,), [operator], tmp_path)
    assert "remove it from partitioner.skip_ops_for_coreml_delegation" in str(refusal.value)


@pytest.mark.parametrize("name", ["aten.lineer.default", "aten.linear.tensor", "atem.linear.out"])
def test_an_operator_to_skip_that_does_not_exist_is_refused(name, tmp_path):
    """It was ignored, and the whole model went into Core ML."""
    with pytest.raises(ConfigError, match=r"no operator of this name") as refusal:
        lower(nn.Linear(8, 2), (ROWS,), [name], tmp_path)
    assert "this model has aten.linear.default" in str(refusal.value)


@pytest.mark.parametrize(
    "name", ["aten.gelu.default", "aten.MUL.tensor", "quantized_decomposed.add.default"]
)
def test_an_operator_to_skip_that_this_model_lacks_is_fine(name, tmp_path):
    kernels, error = kernels_and_error(nn.Linear(8, 2), (ROWS,), [name], tmp_path)
    assert not kernels
    assert error < 1e-5


def test_constants_beside_a_skipped_operator_need_ios18(tmp_path):
    """ExecuTorch puts the transposed weight into a Core ML model of its own."""
    module = nn.Sequential(nn.Linear(8, 2), nn.ReLU()).eval().requires_grad_(False)
    program, skip = torch.export.export(module, (ROWS[0],)), ["aten.addmm.default"]
    options = OPTIONS | {"skip_ops_for_coreml_delegation": skip, "take_over_mutable_buffer": False}
    target = TARGET | {"specification_version": 8, "partitioner": options}
    with pytest.raises(coreml.LoweringError, match=r"reads only constants.*\n.*aten\.linear"):
        coreml.lower(edge_program.make(program, skip), target)


def test_our_execution_does_not_run_what_the_runtime_lacks():
    """Programs may come from elsewhere; a device cannot load this one."""
    config = EdgeCompileConfig(_check_ir_validity=False)
    program = torch.export.export(Pool(), (VOLUME,))
    written = to_edge(program, compile_config=config).to_executorch().buffer
    with pytest.raises(Exception, match=r"avg_pool3d\.out, which ExecuTorch's runtime la"):
        Pte.load(written).run((VOLUME,))
