"""The methods of an artifact, each measured by itself on the inputs that the fp32 model had.

In a conversation the error of a method reaches the next calls, and what ``play()`` chooses from the
outputs. Here every method gets the recorded inputs of the fp32 model, so only its own error is
left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pte_foundry.models.tensors import Call, Sample, Samples, calls_of
from pte_foundry.validate.metrics import Comparison, compare
from pte_foundry.validate.metrics_schema import OutputMetrics
from pte_foundry.validate.output_metrics import layout_of
from pte_foundry.validate.rounding import rounded
from pte_foundry.validate.schema import InputFacts, MethodFacts


def measured_methods(
    reference: Samples, quantized: Sequence[Call] = (), artifact: Sequence[Call] = ()
) -> list[MethodFacts]:
    """Returns the methods with their inputs, outputs and metrics; none without conversations.

    Args:
        reference: with the calls of the fp32 model.
        quantized: the same calls of the quantized torch program.
        artifact: those of the artifact; without them there are no metrics.
    """
    recorded = reference.calls, quantized, artifact
    return [
        _measured(name, names, *(calls_of(name, calls) for calls in recorded))
        for name, names in reference.methods.items()
    ]


def _measured(
    method: str,
    names: Mapping[str, list[str]],
    reference: list[Call],
    quantized: list[Call],
    artifact: list[Call],
) -> MethodFacts:
    expected = [call.outputs for call in reference]
    found: MethodFacts = {
        "name": method,
        "inputs": _facts(names["inputs"], [call.inputs for call in reference]),
        "outputs": _facts(names["outputs"], expected),
        "calls": len(reference),
    }
    if not artifact:
        return found
    ours, between = ([call.outputs for call in calls] for calls in (artifact, quantized))
    total = compare(ours, expected, names["outputs"])
    stages = {
        "quantization": compare(between, expected, names["outputs"]),
        "lowering": compare(ours, between, names["outputs"]),
    }
    return found | {
        "metrics": rounded(total.metrics),
        "outputs": rounded(with_stages(total.outputs, stages)),
        "stages": {name: rounded(stage.metrics) for name, stage in stages.items()},
    }


def _facts(names: Sequence[str], samples: Sequence[Sample]) -> list[InputFacts]:
    columns = zip(*samples, strict=True)
    return [{"name": n, **layout_of(column)} for n, column in zip(names, columns, strict=True)]


def inputs_of(samples: Samples) -> list[InputFacts]:
    """The inputs of a model, as its samples show them."""
    names = samples.input_names or [f"input_{at}" for at in range(len(samples.inputs[0]))]
    return _facts(names, samples.inputs)


def with_stages(
    outputs: list[OutputMetrics], stages: Mapping[str, Comparison]
) -> list[OutputMetrics]:
    """The outputs, each with its loss by stage."""
    return [
        output
        | {
            "stages": {
                name: {key: stage.outputs[at][key] for key in ("sqnr_db", "equal_fraction")}
                for name, stage in stages.items()
            }
        }
        for at, output in enumerate(outputs)
    ]
