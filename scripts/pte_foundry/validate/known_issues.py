"""Known device issues: what is reported to crash or misbehave on Apple's runtimes, as a table.

The interpreter follows Core ML's definition of each operation, so a program can be right here and
fail on a device. Each entry of ``known_issue_table`` comes from a public report or from Apple's own
tests; a match is a warning, not a verdict.

An entry matches a build if its operations meet the condition, the target's compute units include
the entry's, and the affected systems overlap with those that the build runs on: the target's
minimum OS and all later ones. Systems are named by iOS; iOS 16 stands for macOS 13 too, 17 for 14,
18 for 15, 26 for 26. Operations of nested blocks are not looked at: ExecuTorch lowers none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pte_foundry.formats.coreml_delegate import BACKEND
from pte_foundry.formats.inspect_pte import DelegateDescription, Description
from pte_foundry.upstream.executorch_kernels import framework
from pte_foundry.validate.hazards import torch_sources
from pte_foundry.validate.hazards_schema import ISSUE_EFFECTS, KnownIssue
from pte_foundry.validate.known_issue_conditions import Artifact, Call, Entry, Unit
from pte_foundry.validate.known_issue_table import KNOWN_ISSUES

if TYPE_CHECKING:
    from pte_foundry.mil import Program
    from pte_foundry.mil.instructions import Operation
    from pte_foundry.pte import Pte

UNITS: dict[str, frozenset[Unit]] = {
    "all": frozenset({"cpu", "gpu", "ne"}),
    "cpu_only": frozenset({"cpu"}),
    "cpu_and_gpu": frozenset({"cpu", "gpu"}),
    "cpu_and_ne": frozenset({"cpu", "ne"}),
}
"""The units that each value of ``compute_units`` lets Core ML choose from."""

SYSTEMS = {6: 15, 7: 16, 8: 17, 9: 18, 10: 26}
"""iOS version by Core ML specification version (coremltools 9.0, ``_deployment_compatibility``)."""

_SOURCES_SHOWN = 3


def of(pte: Pte, description: Description, debug_handles: Mapping[str, str]) -> list[KnownIssue]:
    """Returns the known issues that an artifact matches; see :func:`find`.

    Args:
        pte: the artifact.
        description: of the same artifact.
        debug_handles: debug handle to "operator @ module", from the ``lower`` step.
    """
    programs = {
        position: (d.program, d.function, torch_sources(d.debug_info, debug_handles))
        for position, d in enumerate(pte.delegates)
        if d.backend_id == BACKEND and not d.model.compiled
    }
    return find(description, programs)


def find(
    description: Description,
    programs: Mapping[int, tuple[Program, str, Mapping[str, str]]],
) -> list[KnownIssue]:
    """Returns the known issues that a build matches: crashes first, then by table order.

    Args:
        description: of the artifact.
        programs: by position among its delegates: the program, its function, and the torch
            operators of its values (``validate.hazards.torch_sources``). Delegates of other
            backends and compiled models are left out.
    """
    found = []
    for position, (program, function, sources) in programs.items():
        artifact = _artifact(description.delegates[position], program, function)
        specs = artifact.description.compile_specs
        units = UNITS[specs.get("compute_units", "all")]
        version = artifact.description.specification_version or min(SYSTEMS)
        oldest = SYSTEMS.get(version, max(SYSTEMS.values()))
        for entry in KNOWN_ISSUES:
            if units.isdisjoint(entry.units) or _over(entry, oldest):
                continue
            if entry.op == "*":
                if entry.when(artifact):
                    found.append(_report(entry, units, [None]))
            elif matching := [c for c in artifact.calls if _matches(entry, c)]:
                found.append(_report(entry, units, [_source(c, sources) for c in matching]))
    found += _frameworks(description)
    return sorted(found, key=lambda issue: ISSUE_EFFECTS.index(issue["effect"]))


def _over(entry: Entry, oldest: int) -> bool:
    """Whether the build needs a newer system than any that is affected."""
    last = entry.systems[1]
    return last is not None and last < oldest


def _matches(entry: Entry, call: Call) -> bool:
    return call.operation.op == entry.op and entry.when(call)


def _source(call: Call, sources: Mapping[str, str]) -> str | None:
    return next((s for o in call.operation.outputs if (s := sources.get(o.name))), None)


def _report(entry: Entry, allowed: frozenset[Unit], sources: list[str | None]) -> KnownIssue:
    known = list(dict.fromkeys(source for source in sources if source))
    shown = ", ".join(known[:_SOURCES_SHOWN])
    if len(known) > _SOURCES_SHOWN:
        shown += f" and {len(known) - _SOURCES_SHOWN} more"
    return {
        "op": entry.op,
        "torch_source": shown or None,
        "unit": ", ".join(unit for unit in entry.units if unit in allowed),
        "os": entry.os,
        "effect": entry.effect,
        "source": entry.source,
        "condition": entry.condition,
        "count": len(sources),
    }


def _frameworks(description: Description) -> Iterator[KnownIssue]:
    """Kernels outside of the delegate that an app does not link unless it is told to."""
    needed: Counter[str] = Counter()
    for kernel, count in description.kernels.items():
        if framework(kernel) == "kernels_quantized":
            needed["kernels_quantized"] += count
    for name, count in needed.items():
        yield {
            "op": "quantized_decomposed",
            "torch_source": None,
            "unit": "cpu",
            "os": "all",
            "effect": "refused",
            "source": "docs.pytorch.org/executorch/stable/using-executorch-ios.html (1.5)",
            "condition": f"unless the app links {name}: quantization runs outside of the delegate",
            "count": count,
        }


def _artifact(description: DelegateDescription, program: Program, function: str) -> Artifact:
    operations = program.operations(function)
    signature = program.functions[function]
    types = {value.name: value.type for value in signature.inputs}
    makers = {}
    for operation in operations:
        for output in operation.outputs:
            types[output.name] = output.type
            makers[output.name] = operation
    calls = tuple(
        Call(operation, _constants(program, operation, function), types, makers)
        for operation in operations
    )
    return Artifact(description, program, function, calls)


def _constants(program: Program, operation: Operation, function: str) -> Mapping[str, Any]:
    if not operation.outputs:
        return {}
    return program.constants(operation.outputs[0].name, function)
