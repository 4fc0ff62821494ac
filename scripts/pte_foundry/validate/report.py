"""Executes an artifact and measures what its validation report contains.

Three comparisons on the same samples attribute the loss to its stages: the artifact against the
fp32 reference (``metrics``), the quantized torch program against the reference
(``stages.quantization``), and the artifact against the quantized program (``stages.lowering``).

What the artifact does is a result, whatever it is: if it cannot be loaded or executed, or if the
model's ``score()`` or ``agreement()`` fail on its outputs, the measurement has an ``error``. Only
what would fail on the fp32 reference as well is the user's error, and raised.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from pte_foundry.errors import FoundryError, ModelError
from pte_foundry.formats.inspect_pte import Description, describe
from pte_foundry.models.inference import played, recalled
from pte_foundry.models.methods import FORWARD
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import Call, Sample, Samples, default_output_names
from pte_foundry.pte import Pte
from pte_foundry.pte.delegate import Delegate
from pte_foundry.validate import known_issues
from pte_foundry.validate.accepted import accepted_sizes, run_ends
from pte_foundry.validate.hazards import Hazards, constants_beyond_fp16, torch_sources
from pte_foundry.validate.hazards_schema import Hazard, KnownIssue
from pte_foundry.validate.methods import inputs_of, measured_methods, with_stages
from pte_foundry.validate.metrics import Comparison, compare
from pte_foundry.validate.metrics_schema import COMMON_METRICS, Metrics
from pte_foundry.validate.output_hazards import FP16_STEP, FP32_STEP, output_hazards
from pte_foundry.validate.rounding import rounded
from pte_foundry.validate.schema import Artifact, Failure, Measurement, MethodFacts
from pte_foundry.validate.task_metrics import TaskMetrics


@dataclass
class Execution:
    """What running an artifact gave, up to where it failed.

    Attributes:
        outputs: of each sample.
        calls: of the calls that are recorded in the reference (``models.play``).
        hazards: of all samples.
        error: why it failed.
    """

    outputs: list[Sample] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    hazards: list[Hazard] = field(default_factory=list)
    error: Exception | None = None


def execute(
    pte: Pte,
    reference: Samples,
    debug_handles: Mapping[str, str],
    beyond_fp16: Mapping[str, float] | None = None,
    model: ModelModule | None = None,
) -> Execution:
    """Runs the artifact once for each sample, and for each recorded call.

    States and buffers have their initial values at the start of every sample.

    Args:
        pte: the artifact.
        reference: the samples, and the calls of the fp32 model.
        debug_handles: debug handle to "operator @ module", from the ``lower`` step.
        beyond_fp16: debug handle to a constant that fp16 does not have, from the same step.
        model: the model module, for ``play()`` and the name of the method.

    Raises:
        OSError: the machine fails, not the artifact.
    """
    done = Execution()
    seen = {
        one: Hazards(lambda one=one: one.program.function(one.function)) for one in pte.delegates
    }
    ran: set[Delegate] = set()
    for delegate, collected in seen.items():
        delegate.observe = collected.observe

    def tap(delegate: Delegate, name: str, value: torch.Tensor) -> None:
        ran.add(delegate)
        seen[delegate].tap(name, value)

    try:
        done.outputs = played(
            lambda method, inputs: pte.run(inputs, method, tap),
            pte.reset,
            reference,
            model,
            FORWARD if model is None else model.first_method,
        )
        for delegate in pte.delegates:  # what follows is counted already
            delegate.observe = None
        done.calls = recalled(lambda method, inputs: pte.run(inputs, method), pte.reset, reference)
    except OSError:
        raise
    except Exception as error:
        done.error = error
    for delegate in filter(ran.__contains__, pte.delegates):
        symbols = delegate.debug_info
        done.hazards += seen[delegate].findings(
            delegate.program.function(delegate.function),
            torch_sources(symbols, debug_handles),
            constants_beyond_fp16(symbols, beyond_fp16 or {}),
        )
    return done


def validate(
    pte: Path,
    sha256: str,
    model: ModelModule,
    reference: Samples,
    quantized: Samples,
    debug_handles: Mapping[str, str],
    log: str = "",
    beyond_fp16: Mapping[str, float] | None = None,
    symbols: Mapping[str, Any] | None = None,
) -> Measurement:
    """Executes an artifact and compares it with the reference and the quantized torch program.

    Args:
        pte: the artifact.
        sha256: its digest, for the report.
        model: the model module, for the names of the outputs and for task metrics.
        reference: evaluation samples with the outputs of the fp32 eager model.
        quantized: the same samples with the outputs of the quantized torch program.
        debug_handles: debug handle to "operator @ module", from the ``lower`` step.
        log: path of the log, for an error in the report.
        beyond_fp16: debug handle to a constant that fp16 does not have, from the ``lower`` step.
        symbols: the debug info of models that methods share, from the ``lower`` step.

    Returns:
        The measurement, with an ``error`` if a part of it failed; its traceback is logged. All
        numbers are rounded.

    Raises:
        ModelError: a function of the module fails on the fp32 reference as well, or ``score()``
            returns a number for it that is not finite.
        OSError: the machine fails, not the artifact.
    """
    # With conversations, output_names() is about the methods.
    names = reference.output_names or default_output_names(len(reference.outputs[0]))
    if not reference.methods:
        names = model.output_names(len(reference.outputs[0]), reference.output_names)
    tasks = TaskMetrics(model, reference.outputs, reference.labels, names)
    failures: list[Failure] = []

    def failed(stage: str, error: Exception) -> None:
        logging.error("%s failed", stage, exc_info=error)
        known = isinstance(error, FoundryError)
        message = str(error) if known else f"{type(error).__name__}: {error}"
        failures.append({"stage": stage, "message": message, "log": log})

    def compared(ours: list[Sample], theirs: list[Sample]) -> Comparison:
        found = compare(ours, theirs, names, reference.labels)
        return Comparison(found.metrics | tasks.measure(ours, theirs), found.outputs)

    unknown: Metrics = dict.fromkeys([*COMMON_METRICS, *tasks.names])
    total, lowering = Comparison(unknown, []), Comparison(unknown, [])
    quantization = compared(quantized.outputs, reference.outputs)
    artifact = _artifact(pte, sha256)
    methods: list[MethodFacts] = measured_methods(reference)
    hazards: list[Hazard] = []
    issues: list[KnownIssue] = []
    stage = "load"
    try:
        program = describe(pte)
        artifact = _artifact(pte, sha256, program)
        loaded = Pte.load(pte)
        loaded.add_debug_info(symbols or {})
        if accepts := accepted_sizes(loaded):
            artifact |= {"accepts": accepts}
        issues = known_issues.of(loaded, program, debug_handles)
        stage = "run"
        done = execute(loaded, reference, debug_handles, beyond_fp16, model)
        hazards = done.hazards
        if done.error is not None:
            raise done.error
        run_ends(loaded, reference)
        stage = "compare"
        total = compared(done.outputs, reference.outputs)
        lowering = compared(done.outputs, quantized.outputs)
        methods = measured_methods(reference, quantized.calls, done.calls)
        hazards += output_hazards(names, done.outputs, reference.outputs, _step(program))
        for function, error in tasks.errors(done.outputs):
            failed(function, error)
    except (OSError, ModelError):
        raise
    except Exception as error:
        failed(stage, error)
    stages = {"quantization": quantization, "lowering": lowering}
    measured: Measurement = {
        "artifact": artifact,
        "samples": len(reference.inputs),
        **({"methods": methods} if methods else {"inputs": inputs_of(reference)}),
        "metrics": rounded(total.metrics),
        "outputs": rounded(with_stages(total.outputs, stages)),
        "stages": {name: rounded(stage.metrics) for name, stage in stages.items()},
        "hazards": hazards,
        "known_issues": issues,
        "latency_ms": None,
    }
    return measured | ({"error": failures[0]} if failures else {})


def _artifact(pte: Path, sha256: str, program: Description | None = None) -> Artifact:
    """The facts about the file; without a description those that a malformed file has too."""
    artifact: Artifact = {
        "path": pte.as_posix(),
        "sha256": sha256,
        "bytes": pte.stat().st_size,
        "specification_version": None,
        "delegated_fraction": None,
        "ops": {},
        "states": [],
    }
    if program is None:
        return artifact
    return artifact | {
        "specification_version": program.specification_version,
        "delegated_fraction": program.delegated_fraction,
        "kernels": program.kernels,
        "ops": program.ops,
        "states": list(program.states),
        "weight_bytes": program.weight_bytes,
        "methods": list(program.methods),
        **({"constants": program.constants} if program.constants else {}),
        **({"unshared_weight_bytes": unshared} if (unshared := program.unshared_bytes) else {}),
    }


def _step(program: Description) -> float:
    """Relative distance of neighbouring numbers of the least precise dtype that it computes in."""
    half = any("float16" in delegate.compute_dtypes for delegate in program.delegates)
    return FP16_STEP if half else FP32_STEP
