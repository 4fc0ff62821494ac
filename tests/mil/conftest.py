"""Packages of every kind that coremltools makes, for the tests of the command."""

import numpy as np
import pytest

from tests.mil.mil_cases import SINGLE, coremltools
from tests.mil.test_mil_program import mb, save, spec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("packages")


@pytest.fixture(scope="module")
def single(folder):
    """x[1, 10] -> relu(x @ int4 weights of 64 outputs, in blocks of 5, plus a table of 16)."""
    from coremltools.converters.mil.mil import types as mil

    random = np.random.default_rng(0)
    data = random.integers(-8, 8, (64, 10)).astype(mil.np_int4_dtype)
    scale = random.uniform(0.5, 1, (64, 2)).astype(SINGLE)
    indices = random.integers(0, 16, (64, 64)).astype(mil.np_uint4_dtype)
    table = random.standard_normal((1, 1, 16, 1)).astype(SINGLE)

    def function(x):
        first = mb().constexpr_blockwise_shift_scale(data=data, scale=scale)
        second = mb().constexpr_lut_to_dense(indices=indices, lut=table)
        hidden = mb().linear(x=x, weight=first)
        return mb().relu(x=mb().linear(x=hidden, weight=second), name="out")

    return save(folder / "single.mlpackage", function, x=spec(1, 10))


@pytest.fixture(scope="module")
def several(folder):
    def function(a, b):
        return mb().add(x=a, y=b, name="sum"), mb().real_div(x=a, y=b, name="ratio")

    return save(folder / "several.mlpackage", function, "iOS15", a=spec(3), b=spec(3))


@pytest.fixture(scope="module")
def stateful(folder):
    from coremltools.converters.mil.mil import types as mil

    def function(x, total):
        added = mb().add(x=mb().read_state(input=total), y=x)
        return mb().identity(x=mb().coreml_update_state(state=total, value=added), name="out")

    state = mb().StateTensorSpec((2,), dtype=mil.fp16)
    return save(folder / "stateful.mlpackage", function, x=spec(2, dtype="fp16"), total=state)


@pytest.fixture(scope="module")
def functions(folder):
    """Two functions, ``halved`` and ``doubled``, without a ``main``."""
    ct = coremltools()
    description = ct.utils.MultiFunctionDescriptor()
    bodies = {
        "halved": lambda x: mb().mul(x=x, y=SINGLE(0.5), name="out"),
        "doubled": lambda x: mb().mul(x=x, y=SINGLE(2), name="out"),
    }
    for name, body in bodies.items():
        package = save(folder / f"{name}.mlpackage", body, x=spec(3))
        description.add_function(str(package), "main", name)
    description.default_function_name = "halved"
    ct.utils.save_multifunction(description, str(folder / "functions.mlpackage"))
    return folder / "functions.mlpackage"


@pytest.fixture(scope="module")
def optional(folder):
    """gain is 2 unless given; x is of 2 to 5 elements, mask of 4 or 6."""
    from coremltools.converters.mil.mil import get_new_symbol
    from coremltools.converters.mil.mil import types as mil

    ct = coremltools()
    program = mb().program(
        input_specs=[
            mb().TensorSpec((get_new_symbol(),), dtype=mil.fp32),
            mb().TensorSpec((get_new_symbol(),), dtype=mil.fp32),
            mb().TensorSpec((1,), dtype=mil.fp32),
        ],
        opset_version=ct.target.iOS17,
    )(lambda x, mask, gain: (mb().mul(x=x, y=gain, name="out"), mb().relu(x=mask, name="kept")))
    model = ct.convert(
        program,
        convert_to="mlprogram",
        inputs=[
            ct.TensorType("x", shape=(ct.RangeDim(2, 5, default=3),)),
            ct.TensorType("mask", shape=ct.EnumeratedShapes([(4,), (6,)], default=(4,))),
            ct.TensorType("gain", shape=(1,), default_value=np.full((1,), 2, SINGLE)),
        ],
        minimum_deployment_target=ct.target.iOS17,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(folder / "optional.mlpackage"))
    return folder / "optional.mlpackage"
