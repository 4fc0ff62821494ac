"""Verification of a described ``.pte`` against the properties of a target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pte_foundry.errors import ProgramError
from pte_foundry.formats.coreml_delegate import BACKEND
from pte_foundry.formats.inspect_pte import DelegateDescription, Description


@dataclass(frozen=True)
class Expected:
    """Required properties of a program; None accepts any value.

    Attributes:
        specification_version: the one of the minimum OS.
        precision: "float16" or "float32".
        compute_units: one of :data:`pte_foundry.formats.coreml_delegate.COMPUTE_UNITS`.
        model_type: "model" or "compiled_model".
        stateful: whether the program has states.
    """

    specification_version: int | None = None
    precision: str | None = None
    compute_units: str | None = None
    model_type: str | None = None
    stateful: bool | None = None


def verify(description: Description, expected: Expected) -> None:
    """Compare a program with its required properties.

    Raises ProgramError that lists all mismatches.
    """
    findings = []
    if not any(delegate.backend_id == BACKEND for delegate in description.delegates):
        findings.append("nothing is delegated to Core ML")
    for number, delegate in enumerate(description.delegates):
        where = f"delegate {number} of {delegate.method!r}"
        if delegate.backend_id != BACKEND:
            findings.append(f"{where} is {delegate.backend_id}, expected {BACKEND}")
            continue
        findings += [f"{where}: {finding}" for finding in _mismatches(delegate, expected)]
    # A delegate of a few operations may need float32; a whole program does not.
    dtypes = {dtype for delegate in description.delegates for dtype in delegate.compute_dtypes}
    if expected.precision == "float16" and dtypes == {"float32"}:
        findings.append("computes in float32 only, expected float16")
    if expected.stateful is not None and bool(description.states) != expected.stateful:
        found = f"states {', '.join(description.states)}" if description.states else "no states"
        findings.append(f"{found}, expected {'some' if expected.stateful else 'none'}")
    if findings:
        raise ProgramError("the program does not match its target: " + "; ".join(findings))


def _mismatches(delegate: DelegateDescription, expected: Expected) -> Iterator[str]:
    specs = delegate.compile_specs
    compiled = specs.get("model_type") == "compiled_model"
    pairs = [
        ("compute units", specs.get("compute_units"), expected.compute_units),
        ("model type", specs.get("model_type", "model"), expected.model_type),
        ("precision", specs.get("model_compute_precision"), expected.precision),
    ]
    if not compiled:  # Apple's compiled format does not contain it
        version = delegate.specification_version
        pairs.append(("specification version", version, expected.specification_version))
    for what, found, required in pairs:
        if required is not None and found != required:
            yield f"{what} {found}, expected {required}"
    if expected.precision == "float32" and "float16" in delegate.compute_dtypes:
        yield "computes in float16, expected float32 only"
