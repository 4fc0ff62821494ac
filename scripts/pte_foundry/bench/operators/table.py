"""The table of operators: what a sweep found, as a Markdown file that is read back by the tests."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby

from pte_foundry.bench.operators.program import LEAST_DB, Result
from pte_foundry.bench.operators.sweep import Key

PRECISIONS = tuple(LEAST_DB)
BAD = ("wrong", "broken", "crashed", "hung")
"""Outcomes that no program may have."""

LONGEST = 160
"""Characters of a reason."""

HEAD = """\
# Operators

What becomes of every operator that coremltools' PyTorch frontend registers, in a program of its
own, for iOS 18. `make operators` writes this file: it lowers each program, executes it with the
interpreter, and compares its outputs with eager PyTorch on the same inputs: {db}.
Argument patterns are PyTorch's own samples, and calls in `bench/operators/calls/`.

- **right**: computed in the Core ML delegate, as PyTorch does.
- **repaired**: right here; refused, broken or wrong with ExecuTorch and coremltools alone.
- **outside**: right, but ExecuTorch keeps an operator out of the delegate.
- **refused**: lowering fails, with the reason given.
- **differs**: the outputs are not PyTorch's, for a reason in Core ML's own definitions.
- **no program**: `torch.export` refuses it, or it has no output to compare.
- **wrong**, **broken**: the outputs are wrong, or the program cannot be executed. There is none.

Patterns that are right are counted, all others are listed; inputs are given by dtype and shape.
Precision is that of the target.
"""
ALL, OTHERS, _NONE = "all", "others:", "none"


def render(
    results: Mapping[Key, Result], unreachable: Mapping[str, str], versions: Mapping[str, str]
) -> str:
    """Returns the table as Markdown.

    Args:
        results: by operator, label, and precision.
        unreachable: reasons for the operators that have no patterns.
        versions: of the libraries that the table depends on.
    """
    head = HEAD.format(db=", ".join(f"{db:.0f} dB in {p}" for p, db in LEAST_DB.items()))
    if any(result.outcome in BAD for result in results.values()):
        head = head.replace(" There is none.", "")
    lines = [head, "Versions: " + ", ".join(f"{n} {v}" for n, v in sorted(versions.items())), ""]
    lines += _summary(results)
    lines += ["", f"| operator | pattern | {' | '.join(PRECISIONS)} | why |", "|---" * 5 + "|"]
    rows = {(o, label): {} for o, label, _ in results}
    for (operator, label, precision), result in results.items():
        rows[operator, label][precision] = result
    for operator, group in groupby(sorted(rows), key=lambda key: key[0]):
        lines += _of_operator(operator, {label: rows[operator, label] for _, label in group})
    for operator, why in sorted(unreachable.items()):
        lines.append(f"| {operator} | {_NONE} | – | – | {why} |")
    return "\n".join(lines) + "\n"


def _summary(results: Mapping[Key, Result]) -> list[str]:
    counts = {p: Counter(r.outcome for k, r in results.items() if k[2] == p) for p in PRECISIONS}
    outcomes = sorted({outcome for count in counts.values() for outcome in count})
    lines = [f"| {len({key[0] for key in results})} operators | {' | '.join(PRECISIONS)} |"]
    lines.append("|---" * (1 + len(PRECISIONS)) + "|")
    for outcome in outcomes:
        lines.append(f"| {outcome} | {' | '.join(str(counts[p][outcome]) for p in PRECISIONS)} |")
    return lines


def _of_operator(operator: str, patterns: Mapping[str, Mapping[str, Result]]) -> list[str]:
    right = {
        label
        for label, results in patterns.items()
        if [results[p].outcome for p in PRECISIONS if p in results] == ["right"] * len(PRECISIONS)
    }
    lines = []
    for label, results in patterns.items():
        if label in right:
            continue
        cells = [results[p].outcome if p in results else "–" for p in PRECISIONS]
        why = dict.fromkeys(_short(results[p].detail) for p in PRECISIONS if p in results)
        text = "; ".join(reason for reason in why if reason)
        lines.append(f"| {operator} | {_cell(label)} | {' | '.join(cells)} | {_cell(text)} |")
    if right:
        label = f"{OTHERS if lines else ALL} {len(right)}"
        lines.append(f"| {operator} | {label} | {' | '.join(['right'] * len(PRECISIONS))} | |")
    return lines


def _short(detail: str) -> str:
    detail = re.sub(r"^LoweringError: upstream cannot lower .* in float(16|32): ", "", detail)
    detail = re.sub(r" \(from (\S+) at [^)]*\)", r" (from \1)", detail)
    detail = re.sub(r"<class '[^']*?(\w+)'>", r"\1", detail)
    return detail if len(detail) <= LONGEST else f"{detail[: LONGEST - 1]}…"


def _cell(text: str) -> str:
    return re.sub(r"([|*_<])", r"\\\1", text) or " "


def read(text: str) -> dict[Key, str]:
    """Returns the outcomes in a table: by operator, label and precision; the label
    ``all N`` or ``others: N`` stands for all that are right.

    Operators without patterns are not in it.
    """
    _, _, rows = text.partition("| why |")
    found = {}
    for line in rows.splitlines():
        cells = re.split(r"(?<!\\) ?\| ?", line)[1:-1]
        if len(cells) != 5 or cells[1] in (_NONE, "---"):
            continue
        operator, label, *outcomes, _ = (re.sub(r"\\(.)", r"\1", cell) for cell in cells)
        for precision, outcome in zip(PRECISIONS, outcomes, strict=True):
            found[operator, label, precision] = outcome
    return found


def counted(label: str) -> int:
    """Returns how many patterns a label stands for; 0 if it is the label of one."""
    found = re.fullmatch(rf"({ALL}|{OTHERS}) (\d+)", label)
    return int(found[2]) if found else 0


def expected(table: Mapping[Key, str], keys: Iterable[Key]) -> dict[Key, str | None]:
    """Returns the outcome that a table gives for each program; None if it is not in it."""
    whole = {(o, p): table[o, label, p] for o, label, p in table if counted(label)}
    return {key: table.get(key) or whole.get((key[0], key[2])) for key in keys}
