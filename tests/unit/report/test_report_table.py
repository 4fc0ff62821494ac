"""Protects the table that ends a build: complete in a pipe, whole in a narrow terminal."""

import io
import subprocess
import sys

import pytest
from pte_foundry.cli.main import main
from pte_foundry.files import write_json
from pte_foundry.report import table, text
from pte_foundry.report.summary import summarize
from rich.console import Console

from tests.made_up_reports import detector, path_of, report, reports


def printed(summary: dict, width: int, terminal: bool = False) -> str:
    out = io.StringIO()
    color = "standard" if terminal else None
    console = Console(file=out, width=width, force_terminal=terminal, color_system=color)
    table.render(summary, console)
    return out.getvalue()


def summary_of(*made: dict) -> dict:
    return summarize({path_of(one): one for one in made})


@pytest.mark.parametrize("width", [200, 100, 70, 40])
def test_no_line_is_wider_than_the_table_may_be(width):
    shown = printed(summarize(reports()), width)
    rows = shown.split("\n\n")[0].splitlines()
    assert max(map(len, rows)) <= width
    assert "…" not in shown
    joined = "".join(row.split(" ")[0] for row in rows)  # long names are folded, not cut
    assert "mobilenet_v2/int8_weight_only/ios18" in joined


def test_status_is_readable_without_colour():
    shown = printed(summarize(reports()), 200)
    assert "\x1b" not in shown
    rows = [row.split() for row in shown.split("\n\n")[0].splitlines()]
    lines = {row[0]: row[-1] for row in rows}
    assert lines["mobilenet_v2/lut3_group16/ios18"] == "FAIL"
    assert lines["mobilenet_v2/lut1/ios18"] == "warn"
    assert lines["mobilenet_v2/fp16/ios18"] == "pass"
    assert "FAIL mobilenet_v2/lut3_group16/ios18: sqnr_db 12.3, required >= 15\n" in shown
    assert "warn mobilenet_v2/lut1/ios18: sqnr_db −2.8, required >= 15\n" in shown
    assert "68 builds, 64 passed, 4 failed, 4 with warnings" in shown


def test_colour_in_a_terminal():
    assert "\x1b[1;31mFAIL" in printed(summarize(reports()), 200, terminal=True)


def test_engines_are_named():
    shown = printed(summarize(reports()), 60)
    assert "host = mil-reference interpreter of the shipped bytes, not an Apple device\n" in shown
    assert "mac = executorch-runtime (ssh, on macos-arm64)\n" in shown


def test_names_are_not_markup():
    odd = report("minilm", "fp16", "ios18")
    odd["build"]["recipe"] = "[red]x[/red]"
    assert "minilm/[red]x[/red]/ios18" in printed(summary_of(odd), 200)


def test_a_missed_gate_names_the_output():
    shown = printed(summary_of(detector()), 200)
    assert "FAIL detector/fp16/ios18: output `scores`: 0.0 dB, required >= 45\n" in shown


def test_unmeasured_values_and_reasons():
    """A nan in the outputs leaves null metrics: the table has to survive its worst case."""
    broken = report("minilm", "fp16", "ios18")
    broken["metrics"] = dict.fromkeys(broken["metrics"])
    gate = {"passed": False, "value": None, "reason": "sqnr_db is null, not a finite number"}
    broken["gates"][0] |= gate
    broken["status"] = "fail"
    shown = printed(summary_of(broken), 200)
    assert "minilm/fp16/ios18: sqnr_db is null, not a finite number, required >= 15" in shown


def test_command_in_a_pipe(tmp_path):
    """One build a line, and the exit code says whether a gate failed."""
    path = tmp_path / "summary.json"
    write_json(path, summarize(reports()))
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").touch()
    command = [sys.executable, "-m", "pte_foundry.cli", "table", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1, ran.stderr
    assert "smollm2/int8_weight_only/ios18" in ran.stdout
    assert "perplexity 17.8 (+0.41)" in ran.stdout
    assert f"page: {tmp_path}/report/index.html" in ran.stdout

    write_json(path, summary_of(report("minilm", "fp16", "ios18")))
    assert main(["table", str(path)]) == 0
    path.write_text("{")
    assert main(["table", str(path)]) == 1


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (text.size(0), "0 B"),
        (text.size(999), "999 B"),
        (text.size(999_700), "1 MB"),
        (text.size(3_552_345), "3.55 MB"),
        (text.size(None), "–"),
        (text.percent(0.99999), "99.999 %"),
        (text.percent(1.0), "100.0 %"),
        (text.percent(0.9999999999999999), "100.0 %"),
        (text.percent(1.0000000000000002), "100.0 %"),
        (text.percent(0.99949), "99.9 %"),
        (text.percent(0.999999999), "100.0 %"),
        (text.cosine(None), "–"),
        (text.cosine(-0.5), "−0.500000"),
        (text.metric("top1_change", -0.0028), "−0.3 pp"),
        (text.metric("perplexity_change", 0.0), "±0"),
        (text.metric("delegated_fraction", 0.5), "50.0 %"),
        (text.metric("bytes", 1200), "1.2 kB"),
        (text.number(-0.000012345), "−1.23e−05"),
        (text.task({"sqnr_db": 1.0}), "–"),
        (text.task({"top1": 0.9, "top1_change": -0.01}), "top1 90.0 % (−1.0 pp)"),
    ],
)
def test_numbers(shown, expected):
    assert shown == expected
