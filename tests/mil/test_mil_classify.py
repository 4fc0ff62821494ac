"""Classifiers: the label and the dictionary that Core ML gives instead of an array."""

import numpy as np
import pytest
import torch
from pte_foundry.errors import ProgramError
from pte_foundry.mil import Program

from tests.mil.mil_cases import SINGLE, coremltools
from tests.mil.test_mil_program import changed

LABELS = {"strings": ["cat", "dög", ""], "integers": [10, -3, 2**40]}


class Scores(torch.nn.Module):
    def forward(self, x):
        return torch.softmax(x, -1)


@pytest.fixture(scope="module")
def classifiers(tmp_path_factory):
    ct, packages = coremltools(), {}
    for kind, labels in LABELS.items():
        packages[kind] = tmp_path_factory.mktemp(kind) / "m.mlpackage"
        ct.convert(
            torch.jit.trace(Scores(), torch.zeros(1, 3)),
            inputs=[ct.TensorType("x", shape=(1, 3))],
            classifier_config=ct.ClassifierConfig(labels, predicted_feature_name="label"),
            minimum_deployment_target=ct.target.iOS16,
            compute_precision=ct.precision.FLOAT32,
            skip_model_load=True,
        ).save(str(packages[kind]))
    return packages


@pytest.mark.parametrize("best", range(3))
@pytest.mark.parametrize("kind", list(LABELS))
def test_the_label_is_the_most_probable(classifiers, kind, best):
    x = np.zeros((1, 3), SINGLE)
    x[0, best] = 2
    outputs = Program.load(classifiers[kind]).run({"x": x})
    assert list(outputs) == ["label", "label_probs"]
    label, probabilities = outputs["label"], outputs["label_probs"]
    assert isinstance(label, np.ndarray)
    assert label.shape == ()
    assert label.item() == LABELS[kind][best]
    assert label.dtype.kind == {"strings": "U", "integers": "i"}[kind]
    assert list(probabilities) == LABELS[kind]
    want = torch.softmax(torch.from_numpy(x), -1)[0]
    np.testing.assert_allclose(list(probabilities.values()), want, rtol=1e-6)
    assert type(probabilities[LABELS[kind][0]]) is float


def test_of_equal_probabilities_the_first_wins(classifiers):
    outputs = Program.load(classifiers["strings"]).run({"x": np.zeros((1, 3), SINGLE)})
    assert outputs["label"] == "cat"


def test_outputs_are_described_and_taps_see_the_probabilities_tensor_only(classifiers):
    program, seen = Program.load(classifiers["integers"]), []
    described = [(o.name, str(o.type)) for o in program.functions["main"].outputs]
    assert described == [("label", "int64[]"), ("label_probs", "dict[int64[], fp64[]]")]
    program.run({"x": np.zeros((1, 3), SINGLE)}, tap=lambda name, value: seen.append((name, value)))
    assert "label_probs" not in dict(seen)
    assert all(isinstance(value, torch.Tensor) for _, value in seen)


def _classify(block):
    return block.operations[-1]


def _one_label_fewer(spec, block):
    values = _classify(block).inputs["classes"].arguments[0].value
    del values.immediateValue.list.values[-1]


def _label_of_another_type(spec, block):
    values = _classify(block).inputs["classes"].arguments[0].value
    values.immediateValue.list.values[0].immediateValue.tensor.ints.values.append(1)


def _nested_labels(spec, block):
    argument = _classify(block).inputs["classes"].arguments[0].value
    inner = type(argument).FromString(argument.SerializeToString())
    argument.immediateValue.list.values[0].CopyFrom(inner)


def _declare_integers(spec, block):
    _classify(block).outputs[0].type.tensorType.dataType = 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_one_label_fewer, "classify 'classify_0?' failed: 3 probabilities for 2 classes"),
        (_label_of_another_type, "a constant of type string"),
        (_nested_labels, "an element that is no tensor"),
        (_declare_integers, r"gave 'label' as str, the program declares int64\[\]"),
    ],
)
def test_damage_gives_typed_errors(classifiers, change, message):
    package = classifiers["strings"]
    weights = package / "Data" / "com.apple.CoreML" / "weights"
    weights.mkdir(exist_ok=True)
    (weights / "weight.bin").touch()
    with pytest.raises(ProgramError, match=message):
        Program.from_parts(changed(package, change)[0], None).run({"x": np.zeros((1, 3), SINGLE)})
