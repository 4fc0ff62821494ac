"""Protects whoever runs a ``.pte`` of somebody else: limits, checked arguments, one typed error."""

import pytest
import torch
from pte_foundry.errors import LimitError, ProgramError
from pte_foundry.limits import Limits
from pte_foundry.pte import Pte

from tests.fuzz.pte_programs import UNBOUND, call, free, jump, move, program, schema, tensor

LIMITS = Limits(memory=100 << 20, steps=5000, seconds=60)


def run(*parts, limits: Limits = LIMITS, **named) -> tuple:
    return Pte.load(program(*parts, **named), limits).run([])


def prim(name: str, *numbers) -> tuple:
    """The result of an operator on numbers."""
    count = len(numbers)
    kernel = f"executorch_prim::{name}.Scalar"
    return run([*numbers, None], [kernel], [call(0, *range(count + 1))], outputs=(count,))


# Numbers


@pytest.mark.parametrize(
    ("name", "numbers", "result"),
    [("add", (2, 3), 5), ("mul", (2.5, 2), 5.0), ("mod", (7, 4), 3), ("sym_max", (1, 2.0), 2.0)],
)
def test_numbers_are_computed(name, numbers, result):
    assert prim(name, *numbers) == (result,)


@pytest.mark.parametrize(
    ("name", "numbers", "message"),
    [
        ("add", ("ab", "cd"), "a str, expected a number"),
        ("mul", ("ab", 2**40), "a str, expected a number"),
        ("mod", ("%999999999d", 1), "a str, expected a number"),
        ("eq", ("a", "a"), "a str, expected a number"),
        ("sym_max", (None, 1), "a NoneType, expected a number"),
        ("sym_ite", (True, "a", 1), "a str, expected a number"),
        ("mul", (2**62, 2**62), "does not fit into 64 bits"),
        ("neg", (-(2**63),), "does not fit into 64 bits"),
        ("trunc", (1e300,), "does not fit into 64 bits"),
        ("ceil", (float("inf"),), "infinity"),
        ("floordiv", (1, 0), "by zero"),
    ],
)
def test_what_is_no_number_of_executorch_is_refused(name, numbers, message):
    with pytest.raises(ProgramError, match=message):
        prim(name, *numbers)


def test_lists_are_no_numbers():
    with pytest.raises(ProgramError, match="a list, expected a number"):
        run([[0, 0]], ["executorch_prim::add.Scalar"], [call(0, 0, 0, 0)], outputs=(0,))


def test_a_number_that_grows_in_a_loop_ends():
    square = ["executorch_prim::mul.Scalar"]
    with pytest.raises(ProgramError, match="64 bits"):
        run([3, False], square, [call(0, 0, 0, 0), jump(1, 0)], outputs=(0,))


# Steps, time and memory


def test_an_endless_loop_is_stopped():
    with pytest.raises(LimitError, match="within 5000 instructions"):
        run([False], [], [jump(0, 0)])


def test_a_heavy_loop_is_stopped_by_the_clock():
    values = [tensor([500, 500], offset=0), False]
    with pytest.raises(LimitError, match=r"within 0.3 seconds"):
        run(
            values,
            ["aten::mm.out"],
            [call(0, 0, 0, 0, 0), jump(1, 0)],
            memory=10**6,
            limits=Limits(seconds=0.3, steps=10**9),
        )


def test_planned_memory_beyond_the_limit_is_refused():
    with pytest.raises(LimitError, match="4294967296 bytes"):
        run([tensor([2**15, 2**17], schema.ScalarType.BYTE, 0)], [], [], memory=2**32)


def test_a_large_result_is_refused_before_it_is_made():
    values = [[1, 1], 10**6, 1.0, None, tensor([1, 1], dynamism=UNBOUND)]
    with pytest.raises(LimitError, match=r"aten::full.out: a value of 4000000000000 bytes"):
        run(values, ["aten::full.out"], [call(0, 0, 2, 4, 4)], outputs=(4,))


# Outputs


@pytest.mark.parametrize(
    ("values", "instructions"),
    [
        ([tensor([2], offset=0)], [free(0)]),
        ([schema.EValue(schema.TensorList([0, 0]))], []),
        ([tensor([2**15, 2**15])], []),
    ],
    ids=["freed", "a list of itself", "without memory"],
)
def test_an_output_without_a_value_is_refused(values, instructions):
    with pytest.raises(ProgramError, match="output 0 of 'forward' has no value"):
        run(values, [], instructions, outputs=(0,))


def test_an_output_can_be_none():
    assert run([None, 3], [], [], outputs=(0, 1)) == (None, 3)


def test_a_condition_that_is_no_condition_is_refused():
    with pytest.raises(ProgramError, match="instruction 0 of 'forward'"):
        run([tensor([2], offset=0)], [], [jump(0, 0)])


def test_a_number_in_place_of_a_tensor_is_refused():
    with pytest.raises(ProgramError):
        run(
            [tensor([2], offset=0), 3],
            ["aten::relu.out"],
            [move(1, 0), call(0, 0, 0, 0)],
            outputs=(0,),
        )


# Kernels


@pytest.mark.parametrize(
    "name",
    [
        "aten::_weight_norm_interface_backward.out",
        "aten::reflection_pad2d_backward.grad_input",
        "aten::mkldnn_rnn_layer.out",
        "aten::_chunk_cat.out",
        "aten::from_file.out",
        "aten::special_laguerre_polynomial_t.out",
        "aten::_fft_r2c.out",
        "aten::_fft_c2r.out",
        "aten::view_as_real_copy.out",
        "executorch_prim::pow.Scalar",
    ],
)
def test_kernels_that_no_device_has_or_that_are_complex_are_unsupported(name):
    with pytest.raises(ProgramError, match="needs unsupported operator"):
        run([None], [name], [call(0, 0)])


def new(dtype=schema.ScalarType.FLOAT) -> schema.EValue:
    return tensor([0], dtype, dynamism=UNBOUND)


# These crash torch: a check that is gone ends the test run.
@pytest.mark.parametrize(
    ("training", "channels"), [(False, 1), (True, 2)], ids=["no statistics", "wrong size"]
)
def test_batch_norm_is_checked(training, channels):
    values = [tensor([2, 1, 2, 4], offset=0), None, training, 0.0, -3.0, *[new()] * 3]
    values.append(tensor([channels], offset=0))
    weight = 1 if channels == 1 else 8
    with pytest.raises(ProgramError, match="no_stats_out: "):
        run(
            values,
            ["aten::_native_batch_norm_legit.no_stats_out"],
            [call(0, 0, weight, 1, 2, 3, 4, 5, 6, 7, 5)],
        )


def test_batch_norm_of_a_trained_model_is_checked():
    kernel = "aten::_native_batch_norm_legit_no_training.out"
    image, four = tensor([2, 3, 2, 2], offset=0), tensor([4], offset=256)
    three = tensor([3], offset=512)
    for parameters in ([1, 1, 2, 2], [2, 2, 1, 2], [2, 2, 2, 1], [2, 2, 3, 2]):
        values = [image, four, three, None, 0.1, 1e-5, *[new()] * 3]
        with pytest.raises(ProgramError, match=r"no_training.out: "):
            run(values, [kernel], [call(0, 0, *parameters, 4, 5, 6, 7, 8, 6)])


@pytest.mark.parametrize("index", [10**12, -(10**12), 16])
def test_indices_of_a_pool_are_checked(index):
    """They would write outside of the result."""
    full = ["aten::full.out", "aten::max_pool2d_with_indices_backward.grad_input"]
    indices = tensor([1, 1, 2, 2], schema.ScalarType.LONG, 512)
    values = [tensor([1, 1, 2, 2], offset=0), tensor([1, 1, 4, 4], offset=64), indices]
    values += [2, 1, 0, [3, 3], [5, 5], [4, 4], False, [4, 4, 3, 3], index, None, new()]
    instructions = [call(0, 10, 11, 2, 2), call(1, 0, 1, 6, 6, 7, 8, 9, 2, 13, 13)]
    with pytest.raises(ProgramError, match=r"instruction 1 .* not within a plane of 16 elements"):
        run(values, full, instructions)


@pytest.mark.parametrize("dtype", [schema.ScalarType.INT, schema.ScalarType.LONG])
def test_the_smallest_integer_is_not_divided(dtype):
    low = -(2**31) if dtype == schema.ScalarType.INT else -(2**63)
    values = [tensor([2], dtype, 0), tensor([2], dtype, 64), [3], 2, low, -1, "trunc", None]
    operators = ["aten::full.out", "aten::div.out_mode"]
    fill = [call(0, 2, 4, 0, 0), call(0, 2, 5, 1, 1)]
    with pytest.raises(ProgramError, match=r"instruction 2 .* divided by -1"):
        run([*values, new(dtype)], operators, [*fill, call(1, 0, 1, 6, 8, 8)])


@pytest.mark.parametrize(("sizes", "p"), [([4, 3, 1, 0], -1.0), ([5, 4, 4, 0, 0], 1.0), ([3], 2.0)])
def test_pdist_is_checked(sizes, p):
    values = [tensor(sizes, offset=0), p, new()]
    with pytest.raises(ProgramError, match="expected a float matrix"):
        run(values, ["aten::_pdist_forward.out"], [call(0, 0, 1, 2, 2)])


def test_checked_kernels_compute_what_torch_computes():
    x = torch.arange(12.0).reshape(4, 3) ** 2
    parts = [tensor([4, 3]), 2.0, tensor([6])], ["aten::_pdist_forward.out"], [call(0, 0, 1, 2, 2)]
    made = program(*parts, inputs=(0,), outputs=(2,))
    torch.testing.assert_close(Pte.load(made, LIMITS).run([x])[0], torch.pdist(x))
