"""Programs as ExecuTorch lowers them, against their torch models.

The small networks contain the layers of the default models; each target and precision lowers to a
different mix of operations, and each scheme to different compressed weights.
"""

import tempfile
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from pte_foundry.mil import Program

pytestmark = pytest.mark.slow


class Vision(torch.nn.Module):
    """Convolutions with padding and groups, pooling, a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.depthwise = torch.nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.norm = torch.nn.BatchNorm2d(8)
        self.head = torch.nn.Linear(8, 5)

    def forward(self, x):
        x = F.max_pool2d(F.relu6(self.stem(x)), 2, ceil_mode=True)
        x = x + F.hardswish(self.norm(self.depthwise(x)))
        return F.softmax(self.head(F.adaptive_avg_pool2d(x, 1).flatten(1)), -1)


class Language(torch.nn.Module):
    """Embedding, RMS norm, rotation, grouped-query attention with a causal mask, a gated MLP."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(64, 32)
        self.qkv = torch.nn.Linear(32, 64, bias=False)
        self.out = torch.nn.Linear(32, 32, bias=False)
        self.gate = torch.nn.Linear(32, 64, bias=False)
        self.down = torch.nn.Linear(64, 32, bias=False)
        angles = torch.outer(torch.arange(6.0), 1 / 100 ** (torch.arange(4) / 4))
        self.register_buffer("cos", torch.cat([angles, angles], -1).cos())
        self.register_buffer("sin", torch.cat([angles, angles], -1).sin())

    def rotate(self, x):
        first, second = x.chunk(2, -1)
        return x * self.cos + torch.cat([-second, first], -1) * self.sin

    def forward(self, ids):
        h = self.embed(ids)
        x = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + 1e-5)
        q, k, v = self.qkv(x).split([32, 16, 16], -1)
        q, k, v = (t.unflatten(-1, (-1, 8)).transpose(1, 2) for t in (q, k, v))
        k, v = (t.repeat_interleave(2, 1) for t in (self.rotate(k), v))
        a = F.scaled_dot_product_attention(self.rotate(q), k, v, is_causal=True)
        h = h + self.out(a.transpose(1, 2).flatten(2))
        return F.linear(h + self.down(F.silu(self.gate(h))), self.embed.weight)


IMAGE = torch.randn(2, 3, 15, 15, generator=torch.Generator().manual_seed(0))
TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9]])
MODELS = {"vision": (Vision, IMAGE), "language": (Language, TOKENS)}


def sqnr_db(reference: torch.Tensor, got: torch.Tensor) -> float:
    noise = (reference - got).double().square().sum()
    return float(10 * torch.log10(reference.double().square().sum() / noise.clamp(min=1e-30)))


def lower(model, example, target, precision, stateful=False) -> Program:
    """Lowers a model as a whole and returns the program that the delegate carries."""
    import coremltools as ct
    from executorch.backends.apple.coreml import executorchcoreml
    from executorch.backends.apple.coreml.compiler import CoreMLBackend
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner
    from executorch.exir import to_edge_transform_and_lower

    specs = CoreMLBackend.generate_compile_specs(
        minimum_deployment_target=getattr(ct.target, target),
        compute_precision=getattr(ct.precision, precision),
    )
    exported = torch.export.export(model, (example,))
    partitioner = CoreMLPartitioner(compile_specs=specs, take_over_mutable_buffer=stateful)
    lowered = to_edge_transform_and_lower(exported, partitioner=[partitioner])
    (delegate,) = lowered.to_executorch().executorch_program.backend_delegate_data
    with tempfile.TemporaryDirectory() as folder:
        executorchcoreml.unflatten_directory_contents(bytes(delegate.data), folder)
        return Program.load(Path(folder) / "lowered_module" / "model.mlpackage")


def run(program: Program, example: torch.Tensor) -> torch.Tensor:
    (declared,) = program.functions["main"].inputs
    (output,) = program.run({declared.name: example.to(declared.type.dtype.torch).numpy()}).values()
    return torch.from_numpy(output).float()


@pytest.mark.parametrize("precision", ["FLOAT32", "FLOAT16"])
@pytest.mark.parametrize("target", ["iOS16", "iOS17", "iOS18", "iOS26"])
@pytest.mark.parametrize("name", list(MODELS))
def test_a_lowered_model_agrees_with_eager_torch(name, target, precision):
    torch.manual_seed(0)
    build, example = MODELS[name]
    model = build().eval()
    with torch.no_grad():
        reference = model(example)
    got = run(lower(model, example, target, precision), example)
    assert sqnr_db(reference, got) > (90 if precision == "FLOAT32" else 45)


def quantize(model: torch.nn.Module, scheme: str) -> None:
    from torchao.prototype.quantization.codebook_coreml import CodebookWeightOnlyConfig
    from torchao.quantization import IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerAxis, PerGroup

    config = {
        "int8": IntxWeightOnlyConfig(weight_dtype=torch.int8, granularity=PerAxis(0)),
        "int4": IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=PerGroup(16)),
        "lut3": CodebookWeightOnlyConfig(dtype=torch.uint3, block_size=[16, -1]),
        "lut2": CodebookWeightOnlyConfig(dtype=torch.uint2, block_size=[-1, 8]),
        "lut6": CodebookWeightOnlyConfig(dtype=torch.uint6, block_size=[-1, -1]),
    }[scheme]
    quantize_(model, config, lambda module, _: isinstance(module, torch.nn.Linear))


@pytest.mark.parametrize(
    ("scheme", "target"),
    [("int8", "iOS16"), ("int8", "iOS18"), ("int4", "iOS18"), ("lut3", "iOS18"),
     ("lut2", "iOS18"), ("lut6", "iOS18")],
)  # fmt: skip
def test_a_compressed_model_agrees_with_its_own_torch_program(scheme, target):
    torch.manual_seed(0)
    model = Language().eval()
    quantize(model, scheme)
    with torch.no_grad():
        reference = model(TOKENS)
    assert sqnr_db(reference, run(lower(model, TOKENS, target, "FLOAT32"), TOKENS)) > 90


class Counter(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(1, 4))

    def forward(self, x):
        self.total.add_(x)
        return self.total * 2


def test_a_buffer_becomes_a_state_that_outlives_a_run():
    program = lower(Counter(), torch.ones(1, 4), "iOS18", "FLOAT16", stateful=True)
    (declared,) = program.functions["main"].inputs
    ones = torch.ones(1, 4, dtype=declared.type.dtype.torch).numpy()
    state = program.make_state()
    results = [next(iter(program.run({declared.name: ones}, state=state).values())) for _ in "ab"]
    assert [r.tolist() for r in results] == [[[2] * 4], [[4] * 4]]
