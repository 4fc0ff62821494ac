"""Protects that each failure is told once, on the page and in the terminal, beside good builds."""

import io

import pytest
from pte_foundry.report import table
from pte_foundry.report.failures import failure_of, failures
from pte_foundry.report.page import render
from pte_foundry.report.summary import FailedBuild, summarize
from pte_foundry.report.verdict import FailedBuildsError, passed
from rich.console import Console

from tests.made_up_reports import path_of, report, reports
from tests.unit.report.test_report_content import data_of

WORDS = "Core ML has no <op> & [red]\nsecond line"


def failed(names: str, stage: str, message: str = WORDS, **error: str) -> FailedBuild:
    model, recipe, target = names.split("/")
    log = f"logs/{stage}/{model}/{recipe}.log"
    return FailedBuild(
        {"model": model, "recipe": recipe, "target": target},
        "codebook",
        {"minimum_os": "iOS18", "compute_units": "all"},
        {"stage": stage, "message": message, "log": log} | error,
    )


BROKEN = (
    failed("minilm/lut4/ios17", "lower", subject="minilm/lut4"),
    failed("minilm/lut4/ios18", "lower", subject="minilm/lut4"),
    failed("minilm/lut6/ios18", "lower", subject="minilm/lut6"),
    failed("minilm/lut8/ios18", "lower", "other", subject="minilm/lut8"),
    *(failed(f"net/{recipe}/ios18", "export", subject="net") for recipe in ("fp16", "lut4")),
)


def summary(*broken: FailedBuild) -> dict:
    good = [report("minilm", "fp16", "ios18"), report("minilm", "lut1", "ios18")]
    return summarize({path_of(one): one for one in good}, broken)


def printed(made: dict, width: int = 200) -> str:
    out = io.StringIO()
    table.render(made, Console(file=out, width=width))
    return out.getvalue()


def test_a_finding_is_told_with_its_problem():
    """Its first line is only the place in the config."""
    message = "recipes.lut4.steps[0] = {}\n    problem: matches no module\n    allowed: types: a.B"
    (found,) = failures(summary(failed("net/lut4/ios18", "convert", message))["builds"])
    assert "recipes.lut4.steps[0] = {}: matches no module …" in found.line


def test_equal_messages_of_a_model_and_a_step_are_one_failure():
    found = failures(summary(*BROKEN)["builds"])
    assert [(one.title, len(one.builds), len(one.logs)) for one in found] == [
        ("minilm: lower failed", 3, 2),
        ("minilm/lut8: lower failed", 1, 1),
        ("net: export failed", 2, 2),
    ]
    assert found[0].line == (
        "minilm: lower failed: Core ML has no <op> & [red] … "
        "(stops 3 builds; log: logs/lower/minilm/lut4.log and 1 more)"
    )


def test_equal_messages_of_two_models_are_two_failures():
    both = summary(failed("a/fp16/ios18", "export"), failed("b/fp16/ios18", "export"))
    assert len(failures(both["builds"])) == 2


def test_a_failure_of_no_build_has_neither_subject_nor_count():
    error = {"stage": "manifest", "message": "disk full", "log": "logs/manifest.log"}
    assert failure_of(error).line == "manifest failed: disk full (log: logs/manifest.log)"
    assert "log" not in failure_of(error | {"log": ""}).consequence


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_table_has_a_row_for_each_build_and_a_line_for_each_failure(width):
    shown = printed(summary(*BROKEN), width)
    assert shown.count("no <op> & [red]") == 2  # names of models are no markup
    assert "8 builds, 2 passed, 6 failed, 1 with warnings" in " ".join(shown.split())
    rows = shown.split("\n\n")[0].splitlines()
    assert max(map(len, rows)) <= width
    rows = [line.split() for line in printed(summary(*BROKEN)).split("\n\n")[0].splitlines()]
    assert ["minilm/lut8/ios18", "–", "–", "–", "–", "–", "FAIL", "in", "lower"] in rows
    assert any(row[0] == "minilm/fp16/ios18" and row[-1] == "pass" for row in rows)


def test_a_table_without_any_good_build():
    assert "1 build, 0 passed, 1 failed, 0 B" in printed(summarize({}, BROKEN[:1]))


def test_the_page_begins_with_the_failures_and_escapes_them():
    page = render(summary(*BROKEN))
    assert page.index('id="failures"') < page.index('id="plots"')
    assert page.count("Core ML has no &lt;op&gt; &amp; [red]\nsecond line</span>") == 2
    data = data_of(page)
    titles = [frame["title"] for frame in data["frames"]]
    assert titles[0] == "Why it failed"
    for build in data["builds"]:
        shown = dict(zip(titles, build["details"], strict=True))
        if build["name"] in ("minilm/fp16/ios18", "minilm/lut1/ios18"):
            assert shown.pop("Why it failed") is None
            assert shown.pop("Methods") is None, "of a model with one"
            assert None not in shown.values()
        else:
            facts = dict(shown.pop("Why it failed"))
            assert facts.keys() == {"step", "message", "log"}
            assert set(shown.values()) == {None}, "nothing is known about an artifact"


def test_a_page_without_any_good_build_or_manifest():
    data = data_of(render(summarize({}, BROKEN)))
    assert len(data["builds"]) == len(BROKEN)


def test_a_manifest_of_other_builds_gives_a_failed_one_no_digests():
    manifest = {"environment": {"versions": {}, "lock_sha256": "0"}, "models": {}, "artifacts": {}}
    assert data_of(render(summary(*BROKEN), manifest))


def test_all_pass_if_none_fails_and_warnings_do_not_count():
    assert passed(summary()) == {"builds": 2, "passed": 2, "warned": 1}


def test_the_verdict_names_failed_builds_with_their_reasons():
    with pytest.raises(FailedBuildsError) as error:
        passed(summary(BROKEN[0]))
    assert "1 of 3 builds fails: minilm/lut4/ios17 (lower failed)." in str(error.value)
    with pytest.raises(FailedBuildsError) as error:
        passed(summarize(reports()))
    text = str(error.value)
    assert "4 of 68 builds fail" in text
    assert "mobilenet_v2/lut3_group16/ios18 (sqnr_db)" in text
    assert "lut1" not in text, "a gate that only warns fails nothing"


def test_the_verdict_names_ten_builds_at_most():
    many = [failed(f"net/r{number:02}/ios18", "lower") for number in range(13)]
    with pytest.raises(FailedBuildsError) as error:
        passed(summarize({}, many))
    assert "r09/ios18 (lower failed); and 3 more." in str(error.value)
