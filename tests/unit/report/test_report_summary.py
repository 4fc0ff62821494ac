"""Protects the summary: one record per build, all of its content, and no malformed report."""

import copy
import json
import math
from pathlib import Path

import pytest
from pte_foundry.errors import InputError
from pte_foundry.files import write_json
from pte_foundry.report import text
from pte_foundry.report.schema import Summary
from pte_foundry.report.summary import FailedBuild, summarize
from pte_foundry.steps import summary
from pydantic import TypeAdapter

from tests.made_up_reports import path_of, report, reports


def test_a_record_a_build_in_order():
    made = summarize(reports())
    names = [tuple(b["build"].values()) for b in made["builds"]]
    assert names == sorted(names)
    assert len(names) == len(set(names)) == len(reports()) - 1  # one build ran on two devices
    totals = made["totals"]
    assert totals["builds"] == totals["passed"] + totals["failed"] == len(names)
    assert totals["bytes"] == sum(b["bytes"] for b in made["builds"])
    assert 0 < totals["failed"] < totals["builds"]
    assert totals["warned"] == 4
    json.dumps(made, allow_nan=False)


def test_a_summary_conforms_to_its_schema():
    made = summarize(reports())
    assert TypeAdapter(Summary).validate_python(made, strict=True) == made


def test_order_of_reports_does_not_matter():
    backwards = dict(reversed(reports().items()))
    assert json.dumps(summarize(backwards)) == json.dumps(summarize(reports()))


def test_what_a_report_holds_is_carried_through():
    one = report("minilm", "lut4", "ios18")
    (build,) = summarize({path_of(one): one})["builds"]
    for key in ("build", "artifact", "metrics", "stages", "hazards", "latency_ms", "samples"):
        assert build[key] == one[key]
    assert build["paths"] == {"pte": one["artifact"]["path"], "validation": {"host": path_of(one)}}
    assert build["minimum_os"] == "iOS18"
    assert build["gates"] == [one["gates"][0] | {"device": "host"}]


@pytest.mark.parametrize("broken", ["host", "mac"])
def test_a_build_fails_if_any_device_fails(broken):
    """The metrics shown are the host's, but a failure elsewhere may not disappear."""
    both = {d: report("minilm", "fp16", "ios18", device=d) for d in ("host", "mac")}
    both[broken]["status"] = "fail"
    both[broken]["gates"][0]["passed"] = False
    both["mac"]["metrics"]["sqnr_db"] = 1.0
    (build,) = summarize({path_of(one): one for one in both.values()})["builds"]
    assert build["status"] == "fail"
    assert build["metrics"]["sqnr_db"] == both["host"]["metrics"]["sqnr_db"]
    assert [d["name"] for d in build["devices"]] == ["host", "mac"]
    assert [g["device"] for g in build["gates"] if not g["passed"]] == [broken]


def test_a_build_without_host():
    one = report("minilm", "fp16", "ios18", device="mac")
    (build,) = summarize({path_of(one): one})["builds"]
    assert build["latency_ms"] == one["latency_ms"]


def test_reports_without_scheme_or_details():
    one = report("minilm", "fp16", "ios18")
    del one["scheme"], one["target_details"]
    (build,) = summarize({path_of(one): one})["builds"]
    assert (build["scheme"], build["minimum_os"], build["target_details"]) == (None, None, {})


def test_all_findings_at_once():
    lacking = report("minilm", "fp16", "ios18")
    del lacking["gates"], lacking["artifact"]["sha256"]
    with pytest.raises(InputError) as error:
        summarize({"a.json": lacking, "b.json": [1]})
    assert "a.json: lacks gates, artifact.sha256" in str(error.value)
    assert "b.json: not a validation report" in str(error.value)


@pytest.mark.parametrize(
    ("part", "key", "value", "says"),
    [
        ("artifact", "bytes", "12", 'artifact.bytes is "12", expected a valid integer'),
        ("metrics", "perplexity", "low", 'metrics.perplexity is "low", expected a valid number'),
        ("metrics", "cosine", math.nan, "metrics.cosine is NaN, expected a finite number"),
        ("stages", "lowering", None, "stages.lowering is null, expected a valid dictionary"),
        ("device", "engine", "guess", "device.engine is \"guess\", expected 'mil-reference' or"),
    ],
)
def test_wrong_values_are_findings(part, key, value, says):
    wrong = report("smollm2", "fp16", "ios18")
    wrong[part][key] = value
    with pytest.raises(InputError) as error:
        summarize({"a.json": wrong})
    assert f"a.json: {says}" in str(error.value)


def test_more_keys_and_absent_optional_ones_are_allowed():
    """The keys that are fixed are enough, whoever writes the report."""
    one = report("minilm", "fp16", "ios18")
    one |= {"error": {"stage": "run", "message": "m", "log": "l", "more": 1}, "seconds": 1.5}
    one["outputs"] = [{"name": "y", "sqnr_db": 60, "cosine": 1, "max_abs_error": None}]
    one["stages"]["device"] = one["metrics"]
    one["artifact"] |= {"methods": ["forward"], "date": "today"}
    del one["artifact"]["weight_bytes"], one["metrics"]["worst"], one["gates"][0]["on_fail"]
    (build,) = summarize({path_of(one): one})["builds"]
    assert build["stages"]["device"] == one["metrics"]
    assert (build["error"], build["outputs"]) == (one["error"], one["outputs"])


def failed(model: str, recipe: str, target: str, **error: str) -> FailedBuild:
    names = {"model": model, "recipe": recipe, "target": target}
    reason = {"stage": "lower", "message": "no luck", "log": "lower.log"} | error
    return FailedBuild(names, "float", {"minimum_os": "iOS18"}, reason)


def test_a_build_without_a_report_is_a_record_with_its_error():
    good = report("minilm", "fp16", "ios18")
    made = summarize({path_of(good): good}, [failed("minilm", "lut4", "ios18")])
    assert TypeAdapter(Summary).validate_python(made, strict=True) == made
    first, second = made["builds"]
    assert first == summarize({path_of(good): good})["builds"][0]
    assert (second["status"], second["error"]["stage"]) == ("fail", "lower")
    assert second["paths"] == {"pte": "results/pte/minilm/lut4/ios18.pte", "validation": {}}
    assert (second["bytes"], second["artifact"], second["devices"]) == (None, None, [])
    assert set(second["metrics"].values()) == {None}
    totals = made["totals"]
    assert (totals["builds"], totals["passed"], totals["failed"]) == (2, 1, 1)
    assert totals["bytes"] == good["artifact"]["bytes"]
    json.dumps(made, allow_nan=False)


def test_a_build_that_lacks_the_report_of_one_device_fails_with_those_of_the_others():
    good = report("minilm", "fp16", "ios18")
    made = summarize({path_of(good): good}, [failed("minilm", "fp16", "ios18", stage="validate")])
    (build,) = made["builds"]
    assert (build["status"], build["error"]["stage"]) == ("fail", "validate")
    assert (build["metrics"], build["bytes"]) == (good["metrics"], good["artifact"]["bytes"])


def test_hazards_in_the_totals_are_what_the_gate_counts():
    one = report("minilm", "fp16", "ios18")
    one["hazards"] = [
        {"op": "log", "torch_source": None, "kind": kind, "count": 2}
        for kind in ("inf", "nan", "fp16_near_overflow")
    ]
    assert summarize({path_of(one): one})["totals"]["hazards"] == 4


def test_one_build_and_device_twice():
    one = report("minilm", "fp16", "ios18")
    with pytest.raises(InputError, match=r"b\.json: minilm/fp16/ios18 on host is already in a"):
        summarize({"a.json": one, "b.json": copy.deepcopy(one)})


def test_reports_of_different_bytes():
    """A stale device report must not vouch for a new artifact."""
    new, stale = (report("minilm", "fp16", "ios18", device=d) for d in ("host", "mac"))
    stale["artifact"]["sha256"] = "0" * 64
    with pytest.raises(InputError, match="different artifacts"):
        summarize({"new.json": new, "stale.json": stale})


def test_command(tmp_path, monkeypatch, capfd):
    """Reads the reports where the rules put them, in the folder it runs in."""
    monkeypatch.chdir(tmp_path)
    both = [report("minilm", "fp16", "ios18", device=d) for d in ("host", "mac")]
    for one in both:
        path = Path(path_of(one))
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, one)
    write_json(Path("plan.json"), {"model": "minilm", "builds": {"fp16": ["ios18"]}})
    output = Path("results/summary.json")
    arguments = ["--plans", "plan.json", "--output", str(output)]
    arguments += ["--slice", '{"devices": ["host", "mac"]}']
    assert summary.main(arguments) == 0
    (build,) = json.loads(output.read_text())["builds"]
    assert [device["name"] for device in build["devices"]] == ["host", "mac"]

    before = output.read_bytes()
    path.write_text("{ half")
    assert summary.main(arguments) == 1
    assert "mac.json is damaged" in capfd.readouterr().err
    plan = Path("plan.json")
    plan.write_text(plan.read_text().replace("ios18", "ios17"))
    assert summary.main(arguments) == 1
    assert "plan.json is damaged" in capfd.readouterr().err
    assert output.read_bytes() == before


def test_what_is_made_up_is_named_by_model():
    synthetic = report("vit", "fp16", "ios18") | {"synthetic": ["evaluation", "calibration"]}
    random = report("net", "fp16", "ios18") | {"synthetic": ["evaluation", "weights"]}
    trained = report("digits_cnn", "fp16", "ios18") | {"synthetic": []}
    builds = summarize({path_of(one): one for one in (synthetic, random, trained)})["builds"]
    assert text.synthetic(builds) == [
        "Synthetic samples, not real data: net, vit",
        "Random weights, so default gates on quality only warn: net",
    ]
    assert text.synthetic([]) == []
