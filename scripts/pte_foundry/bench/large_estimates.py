"""What larger language models need, by what was measured of one (``pte_foundry.bench.large``)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pte_foundry.workflow.memory import NEEDS, parameters

LARGER: dict[str, dict[str, Any]] = {
    "Llama 3.2 3B": {"hidden_size": 3072, "num_hidden_layers": 28, "num_attention_heads": 24}
    | {"head_dim": 128},
    "Llama 3.1 8B": {"hidden_size": 4096, "num_hidden_layers": 32, "intermediate_size": 14336}
    | {"head_dim": 128, "tie_word_embeddings": False},
}
"""What counts in their ``config.json`` and differs from that of Llama 3.2 1B."""

_GROUPS = {
    "train": ("train",),
    "model": ("export", "reference"),
    "build": ("convert", "evaluate", "edge", "lower", "pte", "validate"),
}
"""The jobs that a scheduler gets (rules/, ``group:``), with the steps of each."""


def estimated(row: Mapping[str, Any], times: float) -> float:
    """Returns the peak in MiB of a step for a model that is so many times larger.

    What the libraries take, the ``base`` of the step's request, does not grow.
    """
    base = min(_base(row["step"]), row["peak_mb"])
    return base + times * (row["peak_mb"] - base)


def _base(step: str) -> float:
    return NEEDS[f"{step}, compressed" if f"{step}, compressed" in NEEDS else step].base


def document(measured: Mapping[str, Any], machine: Mapping[str, Any]) -> str:
    """Returns the record of ``pte_foundry.bench.large`` for people, in Markdown."""
    count = parameters(measured["shape"])
    larger = {name: parameters(measured["shape"] | LARGER[name]) / count for name in LARGER}
    minutes = measured["seconds"] / 60
    return "\n".join(
        [
            f"# {measured['title']}",
            "",
            f"{measured['how']}",
            "",
            f"{count:,} parameters, random; {machine['processor']}, {machine['cores']} cores; "
            f"all together {minutes:.0f} minutes.",
            "",
            "![Peak memory of every step](large.png)",
            "",
            "## Measured, and what larger models need",
            "",
            "Estimates grow with the parameters, without what libraries take. Minutes are of one "
            "processor: every step computes in one thread.",
            "",
            *_table(
                ["step", "recipe", "min", "GiB", "bytes per parameter"]
                + [f"{name}, GiB" for name in larger],
                (_step(row, count, larger.values()) for row in measured["steps"]),
            ),
            "",
            "## Artifacts",
            "",
            *_table(
                ["recipe", "status", "MiB", "bits per weight", "SQNR of lowering, dB"],
                (_artifact(one, count) for one in measured["artifacts"]),
            ),
            "",
            "## On a cluster",
            "",
            "A scheduler gets the steps in groups (profiles/slurm), which run one after another on "
            "a node that has the memory of the largest one. With `--group-components build=1` all "
            "recipes are built at the same time.",
            "",
            *_table(
                ["job", "steps", "min", "GiB"] + [f"{name}, min, GiB" for name in larger],
                _jobs(measured["steps"], larger.values()),
            ),
            "",
        ]
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    sides = ["---" if number < 2 else "---:" for number in range(len(head))]
    return [f"| {' | '.join(cells)} |" for cells in (head, sides, *rows)]


def _step(row: Mapping[str, Any], count: int, larger: Iterable[float]) -> list[str]:
    peaks = [f"{estimated(row, times) / 1024:.0f}" for times in larger]
    each = f"{row['peak_mb'] * 2**20 / count:.1f}"
    measured = [f"{row['cpu_s'] / 60:.1f}", f"{row['peak_mb'] / 1024:.1f}", each]
    return [row["step"], row["recipe"], *measured, *peaks]


def _artifact(one: Mapping[str, Any], count: int) -> list[str]:
    bits = f"{8 * sum(one['weight_bytes'].values()) / count:.2f}"
    quality = f"{one['lowering_sqnr_db']:.1f}"
    return [one["recipe"], one["status"], f"{one['bytes'] / 2**20:.0f}", bits, quality]


def _jobs(steps: Sequence[Mapping[str, Any]], larger: Iterable[float]) -> list[list[str]]:
    """A row for each job that a scheduler gets."""
    larger, found = list(larger), []
    for job, names in _GROUPS.items():
        for recipe in sorted({row["recipe"] for row in steps if row["step"] in names}):
            rows = [row for row in steps if row["step"] in names and row["recipe"] == recipe]
            minutes = sum(row["cpu_s"] for row in rows) / 60
            most = f"{max(row['peak_mb'] for row in rows) / 1024:.1f}"
            cells = [
                f"{minutes * times:.0f}, {max(estimated(row, times) for row in rows) / 1024:.0f}"
                for times in larger
            ]
            done = ", ".join(dict.fromkeys(row["step"] for row in rows))
            found.append([f"{job} {recipe}".strip(), done, f"{minutes:.1f}", most, *cells])
    return found
