"""Which modules a weight-only step compresses, and what their weights must be.

Works on rows of ``models.structure.modules_table`` and imports nothing heavy, so that planning a
build applies the same rules as the conversion. A step is what ``Step.slice`` returns
(``pte_foundry.config``). The limits are those of torchao 0.18 (codebook_coreml/codebook_ops.py) and
of ExecuTorch's lowering (backends/apple/coreml/compiler/torch_ops.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

Module = Mapping[str, Any]
Step = Mapping[str, Any]

# As upstream's default filter: attention reads this linear's weight without calling it.
_INTERNAL = "torch.nn.modules.linear.NonDynamicallyQuantizableLinear"

_SHOWN = 5


class Problem(NamedTuple):
    """A reason why a step cannot compress a weight.

    Attributes:
        key: path of the setting, below the step.
        problem, allowed, fix: as in ``pte_foundry.findings.Finding``.
    """

    key: tuple[str, ...]
    problem: str
    allowed: str
    fix: str


def selected(step: Step, modules: Sequence[Module]) -> list[Module]:
    """Returns the modules that a step can compress: by type and name, without what stops it."""
    return [module for module in _matched(step, modules) if not _obstacle(step, module)]


def left_out(step: Step, modules: Sequence[Module]) -> dict[str, str]:
    """Returns the modules that match a step and that it cannot compress, each with the reason."""
    found = {module["name"]: _obstacle(step, module) for module in _matched(step, modules)}
    return {name: obstacle for name, obstacle in found.items() if obstacle}


def misfits(step: Step, modules: Sequence[Module]) -> list[tuple[Module, list[Problem]]]:
    """Returns those of them whose weights do not have the shape that the step's options need."""
    found = [(m, [*weight_problems(step, m)]) for m in _matched(step, modules)]
    return [(m, problems) for m, problems in found if problems and not m.get("obstacle")]


def _obstacle(step: Step, module: Module) -> str | None:
    problems = (problem.problem for problem in weight_problems(step, module))
    return module.get("obstacle") or next(problems, None)


def _matched(step: Step, modules: Sequence[Module]) -> list[Module]:
    return [
        module
        for module in modules
        if not set(step["types"]).isdisjoint({module["type"], *module["types"]})
        and (_INTERNAL not in module["types"] or _INTERNAL in step["types"])
        and any(fnmatchcase(module["name"], pattern) for pattern in step["names"])
        and not any(fnmatchcase(module["name"], pattern) for pattern in step["exclude"])
    ]


def assigned(steps: Sequence[Step], modules: Sequence[Module]) -> list[list[Module]]:
    """Returns the modules that each step compresses: the first step that can compress one does."""
    taken: set[str] = set()
    found = []
    for step in steps:
        found.append([m for m in selected(step, modules) if m["name"] not in taken])
        taken |= {module["name"] for module in found[-1]}
    return found


def why_nothing(step: Step, modules: Sequence[Module]) -> str:
    """Returns why a step compresses nothing that an earlier step does not; empty: no match."""
    if selected(step, modules):
        return "earlier steps already compress all that it matches"
    return "; ".join(described(left_out(step, modules)))


def described(left: Mapping[str, str]) -> list[str]:
    """Returns what :func:`left_out` does in words, one text for each reason."""
    names: dict[str, list[str]] = {}
    for name, reason in left.items():
        names.setdefault(reason, []).append(repr(name))
    return [
        ", ".join(found[:_SHOWN])
        + (f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")
        + f": {reason}"
        for reason, found in names.items()
    ]


def weight_problems(step: Step, module: Module) -> Iterator[Problem]:
    """Yields every reason why a step cannot compress the weight of a module, by its shape.

    Such a module is left to later steps, or in floating point.
    """
    shape = module["weight"]
    if shape is None or len(shape) != 2:
        what = "the module has no weight" if shape is None else "the weight is not 2-D"
        fix = "leave its type out"
        yield Problem(("modules",), what, "modules with a weight [rows, columns]", fix)
        return
    if step["scheme"] == "stored":
        if "stored" not in module:
            yield Problem(
                ("modules",),
                "the model's file stores no weight that Core ML can take as it is",
                "modules that the model's stored_weights() names",
                "exclude the module, and let another step quantize it",
            )
        return
    rows, columns = shape
    if step["scheme"] == "affine":
        size = step["granularity"].get("group_size")
        if size is not None and columns % size:
            yield Problem(
                ("affine", "granularity", "group_size"),
                f"{size} does not divide the {columns} columns",
                f"a divisor of {columns}",
                _nearest(columns, size, "group_size"),
            )
        elif (size or columns) == 1:
            what = "the weight has one column" if columns == 1 else "a group is one value"
            fix = "use a codebook" if columns == 1 else "use larger groups"
            key = ("modules",) if columns == 1 else ("affine", "granularity", "group_size")
            yield Problem(
                key, f"{what}, and a scale for each value saves nothing", "2 or more", fix
            )
        return
    block_rows, block_columns = (
        whole if size == -1 else size for size, whole in zip(step["block_size"], shape, strict=True)
    )
    key = ("codebook", "block_size")
    for size, whole, what in ((block_rows, rows, "rows"), (block_columns, columns, "columns")):
        if whole % size:
            allowed = f"-1 or a divisor of {whole}"
            fix = _nearest(whole, size, f"block size of {what}")
            yield Problem(key, f"{size} does not divide the {whole} {what}", allowed, fix)
    if block_rows != rows and block_columns != columns:
        fix = "set one of the two to -1"
        yield Problem(key, "the blocks split both rows and columns", "[N, -1] or [-1, N]", fix)


def _nearest(whole: int, size: int, what: str) -> str:
    best = max(divisor for divisor in range(1, min(size, whole) + 1) if whole % divisor == 0)
    return f"use {what} {best}" if best > 1 else "use another granularity"
