"""Protects execution: state, delegates against eager torch, and errors that name what is wrong."""

from __future__ import annotations

import pytest
import torch
from pte_foundry.errors import InputError, LimitError, ProgramError
from pte_foundry.limits import Limits
from pte_foundry.pte import Pte
from torch import nn

from tests.pte.programs import SMALL_INPUT, Branches, Counter, Sizes, Small, lower, lower_portable

X = torch.linspace(-2, 2, 24)


def test_state_is_kept_and_reset():
    program = Pte.load(lower_portable(Counter(), (torch.ones(4),)))
    one = torch.ones(4)
    assert [program.run((one,))[0][0].item() for _ in range(3)] == [2, 4, 6]
    program.reset()
    assert program.run((one,))[0][0].item() == 2
    assert torch.equal(one, torch.ones(4))


def test_initial_state_is_used():
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower
    from executorch.exir.passes.init_mutable_pass import InitializedMutableBufferPass

    model = Counter()
    model.total += 5
    edge = to_edge_transform_and_lower(torch.export.export(model.eval(), (torch.ones(4),)))
    config = ExecutorchBackendConfig(passes=[InitializedMutableBufferPass(["total"])])
    program = Pte.load(edge.to_executorch(config).buffer)
    assert [program.run((torch.ones(4),))[0][0].item() for _ in range(2)] == [12, 14]
    program.reset()
    assert program.run((torch.ones(4),))[0][0].item() == 12


def test_quantized_operators():
    """Upstream's wheel has these in another library: eager torch is the oracle."""
    import torch.ao.quantization.fx._decomposed

    class Quantized(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            ops = torch.ops.quantized_decomposed
            q = ops.quantize_per_tensor(x, 0.05, 3, -128, 127, torch.int8)
            return ops.dequantize_per_tensor(q, 0.05, 3, -128, 127, torch.int8)

    from pte_foundry.formats import pte_schema
    from pte_foundry.pte import kernels
    from pte_foundry.pte.memory import Memory

    def value(kind: object) -> pte_schema.EValue:
        return pte_schema.EValue(kind)

    def tensor(code: int) -> pte_schema.EValue:
        return value(pte_schema.Tensor(code, 0, [24], [0], False, 0, None, 0, 0, None))

    values = [
        tensor(6), tensor(1), tensor(6), value(pte_schema.Double(0.05)), value(pte_schema.Int(3)),
        value(pte_schema.Int(-128)), value(pte_schema.Int(127)), value(pte_schema.Int(1)),
        value(pte_schema.Null()),
    ]  # fmt: skip
    plan = pte_schema.ExecutionPlan("f", None, values, [], [], [], [], [], [0], [])
    memory = Memory(None, plan)
    memory.set(0, X)
    quantize = kernels.find_kernel(
        pte_schema.Operator("quantized_decomposed::quantize_per_tensor", "out")
    )
    dequantize = kernels.find_kernel(
        pte_schema.Operator("quantized_decomposed::dequantize_per_tensor", "out")
    )
    quantize(memory, [0, 3, 4, 5, 6, 7, 1, 1])
    dequantize(memory, [1, 3, 4, 5, 6, 7, 8, 2, 2])
    assert memory.get(1).dtype == torch.int8
    assert torch.equal(memory.get(2), Quantized()(X))


def test_core_ml_delegates(small):
    """Delegates and kernels together; float32 to float accuracy, float16 to its own."""
    expected = Small().eval()(*SMALL_INPUT)
    for name, tolerance in (
        ("float32", 1e-5),
        ("first", 5e-3),
        ("partial", 5e-3),
        ("inline", 5e-3),
    ):
        program = Pte.load(small[name])
        [found] = program.run(SMALL_INPUT)
        assert found.dtype == torch.float32  # as the program declares; Core ML gave float16
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_core_ml_state(small):
    program = Pte.load(small["stateful"])
    inputs = (torch.ones(4),)
    assert [program.run(inputs)[0][0].item() for _ in range(3)] == [2, 4, 6]
    program.reset()
    assert program.run(inputs)[0][0].item() == 2


def test_methods_that_share_a_model(shared):
    program = Pte.load(shared)
    assert program.methods == ["one", "two"]
    model = Small().eval()
    for name, size in (("one", 1), ("two", 2)):
        inputs = (torch.linspace(-1, 1, size * 192).reshape(size, 3, 8, 8),)
        torch.testing.assert_close(program.run(inputs, name)[0], model(*inputs))


def test_integers_and_scalars_at_the_delegate():
    class Pick(nn.Module):
        def forward(self, x, index, scale):
            return x[:, index] * scale, index + 1

    inputs = (X.reshape(4, 6), torch.tensor([5, 0]), torch.tensor(3.0))
    found = Pte.load(lower(Pick(), inputs, precision="float32")).run(inputs)
    expected = Pick()(*inputs)
    assert [value.dtype for value in found] == [value.dtype for value in expected]
    assert all(map(torch.equal, found, expected))


def test_delegates_say_what_they_are(small):
    import coremltools

    program = Pte.load(small["partial"])
    assert [d.backend_id for d in program.delegates] == ["CoreMLBackend"] * 2
    assert program.delegates[0].compile_specs["compute_units"] == b"all"
    package = program.delegates[1].mlpackage
    assert coremltools.utils.load_spec(str(package)).specificationVersion == 9
    assert set(program.delegates[0].files) >= {"metadata.json", "debug_info.json"}


def test_tap_sees_the_values_inside_delegates(small):
    program = Pte.load(small["partial"])
    seen = []
    program.run(SMALL_INPUT, tap=lambda delegate, name, value: seen.append((delegate.index, name)))
    assert {index for index, _ in seen} == {0, 1}
    for index, name in seen:
        assert program.delegates[index].program.operation(name).op


def test_wrong_inputs_are_named(small):
    program = Pte.load(small["portable"])
    x = SMALL_INPUT[0]
    for inputs, text in [
        ((), "takes 1 inputs, found 0"),
        ((x, x), "takes 1 inputs, found 2"),
        ((x.double(),), r"input 0: found float64 of shape \(1, 3, 8, 8\), expected float32"),
        ((x[:, :2],), r"input 0: found float32 of shape \(1, 2, 8, 8\)"),
        ((3,), "input 0: found int"),
        ((None,), "input 0: found NoneType"),
        (([x],), "input 0: found list"),
    ]:
        with pytest.raises(InputError, match=text):
            program.run(inputs)
    with pytest.raises(InputError, match="the program has forward"):
        program.run((x,), "backward")
    batch, length = torch.export.Dim("batch", max=6), torch.export.Dim("length", max=8)
    shapes = ({0: batch, 1: length},)
    sizes = Pte.load(lower_portable(Sizes(), (torch.ones(2, 3, 4),), shapes))
    with pytest.raises(InputError, match=r"at most \(6, 8, 4\)"):
        sizes.run((torch.ones(7, 8, 4),))


def test_numbers_are_those_of_the_export():
    """As in executorch's runtime: they are part of the program, others would change nothing."""

    class Times(nn.Module):
        def forward(self, x: torch.Tensor, times: int) -> torch.Tensor:
            return x * times

    program = Pte.load(lower_portable(Times(), (X, 3)))
    assert torch.equal(program.run((X, 3))[0], X * 3)
    for other in (4, 3.0, True, X, None):
        with pytest.raises(InputError, match=r"(?s)input 1: .* expected 3"):
            program.run((X, other))


def test_invalid_plans_are_refused(small):
    """A damaged plan neither allocates its memory nor reads beyond it."""
    for size in (-1, 1 << 50, 10):
        program = Pte.load(small["portable"])
        program._file.plans["forward"].non_const_buffer_sizes[1] = size
        with pytest.raises(ProgramError, match="memory"):
            program.run(SMALL_INPUT)
    for field, value in [
        ("scalar_type", 99), ("dim_order", [0, 0, 1, 2]), ("sizes", [-1, 3, 8, 8]),
        ("sizes", [1 << 30] * 4), ("storage_offset", 4), ("data_buffer_idx", 7),
    ]:  # fmt: skip
        program = Pte.load(small["portable"])
        setattr(program._file.plans["forward"].values[0].val, field, value)
        with pytest.raises(ProgramError):
            program.run(SMALL_INPUT)


def test_other_backends_are_named(small):
    loaded = Pte.load(small["first"].replace(b"CoreMLBackend", b"OtherXBackend"))
    assert loaded.delegates[0].backend_id == "OtherXBackend"
    with pytest.raises(ProgramError, match="unsupported delegate OtherXBackend"):
        loaded.run(SMALL_INPUT)
    with pytest.raises(ProgramError, match="is not CoreMLBackend"):
        loaded.delegates[0].files  # noqa: B018


@pytest.mark.parametrize(
    ("name", "overload"),
    [
        ("aten::from_file", "out"),  # reads and makes files
        ("aten::set_", "source_Storage"),
        ("aten::normal", "float_float_out"),  # takes a generator
        ("aten::add", "Tensor"),  # not a form that a program calls
        ("aten::nothing", "out"),
        ("aten::__class__", "out"),
        ("os::system", ""),
        ("llama::sdpa_with_kv_cache", "out"),
        ("quantized_decomposed::nothing", "out"),
    ],
)
def test_operators_that_do_more_than_compute_are_refused(name, overload):
    from pte_foundry.formats import pte_schema
    from pte_foundry.pte import kernels

    assert kernels.find_kernel(pte_schema.Operator(name, overload)) is None


class OneTensor:
    """A frame in which the arguments ``given`` are tensors, and all others are None."""

    def __init__(self, given: set[int]) -> None:
        self.given = given

    def get(self, index):
        return torch.ones(2, 2) if index in self.given else None

    def room(self, index):
        return torch.ones(2, 2)

    def reserve(self, index, sizes):
        return torch.ones(sizes)

    def set(self, index, value): ...

    alias = set


def test_none_in_the_place_of_a_tensor_is_refused():
    """torch makes an undefined tensor from it, on which its kernels end the process by a signal."""
    from pte_foundry.formats import pte_schema
    from pte_foundry.pte import kernels
    from pte_foundry.upstream import executorch_kernels, torch_operators

    tried = 0
    for full in sorted(executorch_kernels.kernels()):
        name, _, overload = full.partition(".")
        kernel = kernels.find_kernel(pte_schema.Operator(name, overload))
        namespace, _, short = name.partition("::")
        function = torch_operators.find(namespace, short, overload or "default")
        if kernel is None or function is None:
            continue
        arguments = torch_operators.schema(function).arguments
        tensors = {i for i, a in enumerate(arguments) if str(a.real_type) == "Tensor"}
        for missing in (i for i in tensors if not arguments[i].is_out):
            with pytest.raises((ProgramError, TypeError), match="expected a tensor"):
                kernel(OneTensor(tensors - {missing}), list(range(len(arguments) + 1)))
            tried += 1
    assert tried > 200


def test_programs_that_do_not_end_are_stopped():
    from pte_foundry.formats import pte_schema

    program = Pte.load(lower_portable(Branches(), (X,)), Limits(steps=1000))
    plan = program._file.plans["forward"]
    for index, value in enumerate(plan.values):
        if isinstance(value.val, pte_schema.Bool | pte_schema.Null | pte_schema.Int):
            plan.values[index].val = pte_schema.Bool(False)
            jump = pte_schema.JumpFalseCall(index, 0)
            break
    plan.chains[0].instructions = [pte_schema.Instruction(jump)]
    with pytest.raises(LimitError, match="does not end within 1000 instructions"):
        program.run((X,))
