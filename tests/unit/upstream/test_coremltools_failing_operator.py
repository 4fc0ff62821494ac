"""Shows that upstream's errors do not name their operator, and that the frames do.

If the first test fails, upstream names operator and module itself: read the message of our errors
again, and remove what it repeats.
"""

import coremltools
import pytest
import torch
import torch.nn.functional as F
from coremltools.converters.mil import Builder, mil
from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipelineManager
from coremltools.converters.mil.mil.passes.pass_registry import PASS_REGISTRY
from pte_foundry.upstream.coremltools_failing_operator import failing_operator, failing_pass


class Net(torch.nn.Module):
    def forward(self, x):
        return F.pad(x.relu(), (1, 1), mode="circular")


@pytest.fixture(scope="module")
def error():
    program = torch.export.export(Net(), (torch.ones(1, 2, 4),), strict=False)
    with pytest.raises(ValueError, match="Pad mode should be one of") as caught:
        coremltools.convert(program.run_decompositions({}), convert_to="milinternal")
    return caught.value


def test_the_message_names_no_operator_but_the_frames_do(error):
    assert "pad_" not in str(error)
    assert "aten" not in str(error)
    found = failing_operator(error)
    assert found.name.startswith("pad")
    assert "test_coremltools_failing_operator.py" in found.meta["stack_trace"]


def test_an_error_of_torch_fx_has_the_node_that_it_ran():
    module = torch.fx.symbolic_trace(torch.nn.Sequential(torch.nn.ReLU(), torch.nn.Linear(4, 4)))
    with pytest.raises(RuntimeError) as caught:
        torch.fx.Interpreter(module).run(torch.ones(1, 3))
    assert failing_operator(caught.value).node.target == "1"


def test_a_mil_operation_is_found_in_a_frame_of_coremltools():
    @Builder.program(input_specs=[Builder.TensorSpec(shape=(2,))])
    def program(x):
        return Builder.relu(x=x, name="relu")

    (relu,) = program.functions["main"].find_ops(op_type="relu")

    scope = {"op": relu}
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", "/x/coremltools/a_pass.py", "exec"), scope)
    found = failing_operator(caught.value)
    assert (found.name, found.debug_handle, found.meta) == ("relu", None, {})


def test_an_error_inside_a_pass_has_the_name_of_the_pass(monkeypatch):
    name = "common::const_elimination"

    def fails(*_):
        raise RuntimeError("boo")

    monkeypatch.setattr(type(PASS_REGISTRY[name]), "apply", fails)
    pipeline = coremltools.PassPipeline([name], "one")
    with pytest.raises(RuntimeError) as caught:
        PassPipelineManager.apply_pipeline(mil.Program(), pipeline)
    assert failing_pass(caught.value) == "const_elimination"


def test_errors_from_elsewhere_have_neither():
    node = torch.fx.Graph().placeholder("x")  # noqa: F841  a local variable that is not upstream's
    with pytest.raises(KeyError) as caught:
        {}["x"]
    assert failing_operator(caught.value) is None
    assert failing_pass(caught.value) == ""
