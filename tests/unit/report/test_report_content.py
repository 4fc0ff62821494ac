"""Protects the page's content: self-contained, escaped, honest about the front; no browser."""

import itertools
import json
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pte_foundry.files import write_json
from pte_foundry.report import charts, details, interface, labels, text
from pte_foundry.report.page import render
from pte_foundry.report.summary import summarize
from pte_foundry.steps.report import main

from tests.made_up_reports import detector, divergence, path_of, report, reports, unmeasured


def summary_of(*made: dict) -> dict:
    return summarize({path_of(one): one for one in made})


def data_of(page: str) -> dict:
    return json.loads(
        re.search(r'<script type="application/json" id="data">(.*?)</script', page)[1]
    )


POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12)


@given(POINTS)
def test_pareto_front_is_its_definition(points):
    front = charts.pareto_front(points)

    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    expected = {p for p in points if not any(beats(other, p) for other in points)}
    assert [points[i] for i in front] == sorted(expected)


def own_builds(builds: list, model: str) -> list:
    return [(i, build) for i, build in enumerate(builds) if build["build"]["model"] == model]


def test_plot_holds_every_measured_build():
    builds = summarize(reports())["builds"]
    own = own_builds(builds, "minilm")
    own[3][1]["metrics"]["sqnr_db"] = None
    spec = charts.size_against(charts.SQNR, own, charts.colours(builds))
    values = spec["data"]["values"]
    assert [v["index"] for v in values] == [i for i, _ in own if i != own[3][0]]
    assert {v["recipe"] for v in values if v["front"]} >= {"fp32", "fp16", "lut1"}


def test_what_is_above_the_scale_is_an_arrow_at_its_end():
    """fp32 builds would take most of the axis; decisions are made below."""
    builds = summarize(reports())["builds"]
    spec = charts.size_against(charts.SQNR, own_builds(builds, "minilm"), charts.colours(builds))
    drawn = {v["recipe"]: (v["value"], v["mark"], v["sqnrText"]) for v in spec["data"]["values"]}
    assert drawn["fp32"] == (70.0, "triangle-up", "118.4 dB")
    assert drawn["fp16"] == (62.7, "circle", "62.7 dB")


def test_the_recipes_of_a_sweep_are_a_line():
    builds = summarize(reports())["builds"]
    own = own_builds(builds, "minilm")
    colours = charts.colours(builds)
    plain = charts.size_against(charts.SQNR, own, colours)
    for at in (0, 1):
        own[at][1]["sweep"] = "bits"
    swept = charts.size_against(charts.SQNR, own, colours)
    assert len(swept["layer"]) == len(plain["layer"]) + 1
    lines = [value["line"] for value in swept["data"]["values"]]
    assert lines[:2] == [f"bits/{own[at][1]['build']['target']}" for at in (0, 1)]
    assert not any(lines[2:])


def test_the_plot_of_a_task_metric_has_the_value_of_fp32():
    builds = summarize(reports())["builds"]
    own = own_builds(builds, "smollm2")
    axis = charts.task_axis([build for _, build in own])
    assert axis.title == "perplexity"
    assert axis.baseline == pytest.approx(17.8 - 0.41)
    assert not axis.front  # lower is better, which nobody told
    spec = charts.size_against(axis, own, charts.colours(builds))
    level = spec["layer"][0]
    assert level["mark"]["type"] == "rule"
    assert level["data"]["values"] == [{"value": axis.baseline}]
    assert {value["value"] for value in spec["layer"][1]["data"]["values"]} == {17.8}
    assert charts.task_axis([]) is None


POINTS_OF_A_PLOT = st.lists(
    st.tuples(st.floats(0, 1), st.floats(0, 1), st.text("abc_", min_size=1, max_size=20)),
    max_size=15,
)


@given(POINTS_OF_A_PLOT)
def test_no_name_covers_a_point_or_another_name(points):
    places = [(x, y) for x, y, _ in points]
    names = [name for _, _, name in points]
    width = labels.WIDTHS["wide"]
    sides = labels.place(places, names, range(len(points) // 2), width)
    pixels = [(x * width, (1 - y) * labels.HEIGHT) for x, y in places]
    placed = [
        labels.box_of(pixels[i], names[i], side) for i, side in enumerate(sides) if side is not None
    ]
    for one, other in itertools.combinations(placed, 2):
        assert not one.meets(other)
    for box in placed:
        covered = [p for p in pixels if box.left < p[0] < box.right and box.top < p[1] < box.bottom]
        assert not covered
    named = [names[i] for i, side in enumerate(sides) if side is not None]
    assert len(named) == len(set(named))


def test_the_program_shows_what_stays_in_float():
    one = report("minilm", "fp16", "ios18")
    one["weights"] = {"compressed": 0.768, "values": 4000, "floats": {"classifier.weight": 480}}
    one["artifact"]["weight_bytes"] = {"int4": 2000, "float16": 250}
    (build,) = summary_of(one)["builds"]
    (facts,) = (
        dict(rows)
        for rows in details.contents(build)
        if rows and any(row[0] == "weights compressed" for row in rows)
    )
    assert facts["weights compressed"] == "76.8 %"
    assert facts["bits per weight"] == "4.50"
    assert facts["largest weights in floating point"] == "classifier.weight: 480"


def test_a_lonely_point_is_named():
    assert labels.place([(0.5, 0.5)], ["fp16"]) == ["right"]


def test_a_long_name_at_the_left_edge_is_beside_the_line_that_leaves_it():
    """Such a point is the smallest build, so it matters most."""
    places = [(0.0, 0.0), (1.0, 1.0)]
    sides = labels.place(places, ["int8_weight_only", "fp16"], [0, 1])
    assert sides == ["above right", "left"]


def test_a_model_without_any_sqnr_has_no_plot():
    broken = report("minilm", "fp16", "ios18")
    broken["metrics"] = dict.fromkeys(broken["metrics"])
    summary = summary_of(broken)
    assert charts.size_against(charts.SQNR, list(enumerate(summary["builds"])), {}) is None
    assert "No build has an SQNR to draw" in render(summary)


def test_nothing_is_loaded():
    """No element that fetches, and a policy that forbids what a library might try."""
    page = render(summarize(reports()))
    assert "default-src 'none'" in page
    markup = re.sub(r"(?s)<(script|style)\b[^>]*>.*?</\1>", "", page)
    markup = re.sub(r'<a href="[^"]*">', "", markup)  # a link is followed by a person
    assert not re.search(r"""(?:src|href|action|data)\s*=\s*["']?(?!["']|data:|#)""", markup)
    style = re.search(r"(?s)<style>(.*?)</style>", page)[1]
    assert "url(" not in style
    assert "@import" not in style


UGLY = """</script><script>alert(1)</script><img src=x onerror="alert('2')">&amp;\u2028{{ 7*7 }}"""


def test_names_are_escaped():
    odd = report("minilm", "fp16", "ios18")
    odd["build"]["model"] = odd["scheme"] = odd["gates"][0]["metric"] = UGLY
    odd["gates"][0]["passed"] = False
    page = render(summary_of(odd))
    plain = render(summary_of(report("minilm", "fp16", "ios18")))
    for tag in ("<script", "<img"):
        assert page.count(tag) == plain.count(tag)
    assert ">49<" not in page
    assert UGLY in data_of(page)["builds"][0]["name"]


def test_a_model_has_its_description_and_licence():
    about = {"minilm": {"description": "Sentences to <b>.", "license": "Apache-2.0"}}
    page = render(summary_of(report("minilm", "fp16", "ios18")), models=about)
    assert '<p class="quiet">Sentences to &lt;b&gt;.</p>' in page
    assert "Licence: Apache-2.0" in page
    assert "Licence" not in render(summary_of(report("minilm", "fp16", "ios18")))


def test_empty_columns_are_left_out():
    one = report("minilm", "fp16", "ios18")
    del one["target_details"], one["scheme"]
    labels = [column["label"] for column in data_of(render(summary_of(one)))["columns"]]
    assert "Recipe" in labels
    assert not {"OS", "Units"} & set(labels)


def details_of(one: dict, inputs: dict | None = None) -> dict[str, list]:
    build = summary_of(one)["builds"][0] | {"outputs": one["outputs"]}
    contents = details.contents(build, inputs)
    titles = [frame["title"] for frame in details.FRAMES]
    return dict(zip(titles, contents, strict=True))


def test_details_say_everything():
    one = report("mobilenet_v2", "int4_per_axis", "ios18")
    found = details_of(one, {"weights": "ab" * 32})
    losses = found["Where the loss comes from"]
    assert [row[0] for row in losses] == ["quantization", "lowering", "both"]
    assert found["Gates"] == [["sqnr_db", ">= 15", "9.9 dB", "−5.1 dB", "–", "host", "fail"]]
    assert found["Hazards"][0][2] == "aten.softmax.int @ layers.3.attention"
    assert [bar[0] for bar in found["Size by data type"]] == [
        "int8",
        "float32",
        "program and other data",
    ]
    assert sum(bar[1] for bar in found["Size by data type"]) == one["artifact"]["bytes"]
    assert found["Operations"][0] == ["constexpr_lut_to_dense", 53, "53"]
    assert ["operations", "151"] in found["Program"]
    assert ["sha256", one["artifact"]["sha256"]] in found["Files and digests"]
    assert ["weights", "ab" * 32] in found["Files and digests"]
    assert found["Executed by"][0][1] == "mil-reference"


def test_frames_fit_what_is_put_into_them():
    """A row has a cell for every head; whatever can be empty says so."""
    found = details_of(conversing())
    for frame in details.FRAMES:
        if frame["kind"] == "rows":
            assert {len(row) for row in found[frame["title"]]} == {len(frame["head"])}


def conversing() -> dict:
    """A report of a model whose samples are conversations; the third method was not measured."""
    one = detector()
    measured = {key: one[key] for key in ("metrics", "stages", "outputs")}
    facts = {"inputs": [{"name": "x", "dtype": "float32", "shape": [1, 2]}], "calls": 4}
    one["methods"] = [
        {"name": "prefill", **facts, **measured},
        {"name": "decode", **facts, **measured, "outputs": one["outputs"][:1]},
    ]
    one["artifact"]["unshared_weight_bytes"] = 3_000_000
    return one


def test_every_method_is_a_row_and_its_stages_have_their_loss():
    found = details_of(conversing())
    prefill, decode = found["Methods"]
    quantization, lowering, both = (row[1] for row in found["Where the loss comes from"])
    assert prefill == ["prefill", "4", both, "scores", quantization, lowering]
    assert decode[:4] == ["decode", "4", both, "–"], "its only output needs no name"
    assert ["weights if methods shared none", text.size(3_000_000)] in found["Program"]
    assert details_of(detector())["Methods"] is None, "no frame"


def test_layers_have_the_name_of_their_method():
    found = divergence(4)
    for layer in found["layers"]:
        layer["method"] = "decode"
    plotted, rows = details.divergence_contents(found)
    assert all(row[0].startswith("decode: aten.") for row in rows)
    assert all(value[1].startswith("decode: aten.") for value in plotted)


def test_every_output_is_a_row_and_the_worst_is_named():
    found = details_of(detector())
    boxes, scores, classes = found["Outputs"]
    assert boxes[:3] == ["boxes", "float32 [1, 10]", "62.7"]
    assert scores[2:6] == ["0.0", "0.0", "3", "0.000000"]
    assert classes[:2] == ["classes", "int64 [1, 10]"]
    assert classes[2:] == [*["–"] * 4, "7", "50.0 %", "–", "100.0 %", "50.0 %"]
    assert [row[-1] for row in found["Where the loss comes from"]] == ["–", "–", "scores"]
    assert found["Gates"][0][2] == "0.0 dB (output `scores`)"
    assert found["Hazards"] == [["output is all zeros", "output `scores`", "–", "64"]]
    assert details_of(report("minilm", "fp16", "ios18"))["Outputs"] == [], "no table of one row"


def test_an_output_without_numbers_has_its_reason():
    one = detector()
    one["outputs"][0] |= {"problem": "sample 2 has a nan", "sqnr_db": None, "shape": [None, 4]}
    one["outputs"][1] |= {"constant": True, "shape": None}
    del one["outputs"][2]["stages"], one["outputs"][2]["dtype"]
    rows = details_of(one)["Outputs"]
    assert rows[0][1:3] == ["float32 [n, 4]", "sample 2 has a nan"]
    assert rows[1][1] == "float32 constant"
    assert rows[2][-2:] == ["–", "–"]


def test_a_build_that_could_not_be_executed_is_shown_without_numbers():
    """Every cell without a measurement is a dash."""
    summary = summary_of(unmeasured(), detector())
    found = details_of(unmeasured())
    assert found["Where the loss comes from"][2] == ["both", *["–"] * 7]
    assert ["delegated to Core ML", "–"] in found["Program"]
    own = [(i, b) for i, b in enumerate(summary["builds"])]
    spec = charts.size_against(charts.SQNR, own, charts.colours(summary["builds"]))
    assert [value["recipe"] for value in spec["data"]["values"]] == ["fp16"]
    assert "detector/lut4/ios18" in render(summary)


def test_hazards_are_damage_and_overflow_warnings_are_counted_apart():
    """The headline counts what the gate ``hazards`` counts."""
    one = report("minilm", "fp16", "ios18")
    one["hazards"] = [
        {"op": "matmul", "torch_source": None, "kind": kind, "count": count}
        for kind, count in (("fp16_overflow", 2), ("nan", 3), ("fp16_near_overflow", 4))
    ]
    page = render(summary_of(one))
    assert "<dt>hazards</dt><dd>5</dd>" in page
    assert "<dt>hazard warnings</dt><dd>4</dd>" in page
    assert "hazard warnings</dt>" not in render(summary_of(report("minilm", "fp16", "ios18")))


def test_known_issues_are_on_the_page_and_counted_in_the_table():
    one = report("minilm", "int4_per_axis", "ios18")
    (row,) = details_of(one)["Known device issues"]
    assert row[:2] == ["wrong", "scaled_dot_product_attention × 2"]
    assert row[-1] == "CT #2650 (2026-02-12)"
    builds = summary_of(one, report("minilm", "fp16", "ios18"))["builds"]
    assert (
        text.known_issues(builds) == "known device issues in 1 of 2 builds: 1 wrong (see the page)"
    )
    assert text.known_issues(builds[:1]) == ""


def test_no_operations_no_weights_no_hazards():
    one = report("minilm", "fp16", "ios18")
    one["artifact"] |= {"ops": {}, "weight_bytes": {}, "states": ["cache"]}
    one["gates"], one["hazards"], one["known_issues"] = [], [], []
    found = details_of(one)
    empty = [frame for frame in details.FRAMES if found[frame["title"]] == []]
    assert [frame["title"] for frame in empty][:4] == [
        "Outputs",
        "Gates",
        "Hazards",
        "Known device issues",
    ]
    assert len(empty) == 6
    assert all(frame["none"] for frame in empty)
    assert ["states", "cache"] in found["Program"]


def test_layers_are_drawn_in_order_and_listed_from_the_worst():
    plot, rows = details.divergence_contents(divergence())
    assert len(plot) == details.LAYERS
    names = [row[1] for row in plot]
    assert names == sorted(names, key=lambda name: int(name.rpartition(".")[2]))
    frames = details.divergence_frames()
    assert {len(row) for row in plot} == {len(frames[0]["fields"])}
    assert {len(row) for row in rows} == {len(frames[1]["head"])}
    assert rows[0] == [
        "aten.linear.default @ encoder.3",
        "−∞",
        "−∞",
        "−1.5 … 2",
        "−1.25 … 1.75, 7 not finite",
        "fp16_overflow",
    ]
    # Infinite noise is drawn below everything, no noise not at all.
    by_name = {row[1]: row for row in plot}
    finite = [v for row in plot for v in row[2:4] if v is not None]
    assert by_name["aten.linear.default @ encoder.3"][2] == min(finite)
    exact = by_name["aten.linear.default @ encoder.5"]
    assert (exact[2], exact[4]) == (None, "exact")


def test_nothing_is_drawn_where_all_layers_are_exact():
    made = divergence(4)
    for layer in made["layers"]:
        layer |= {"introduced_sqnr_db": 200.0, "accumulated_sqnr_db": 200.0}
    assert details.divergence_contents(made) == [[], []]


def test_layers_are_on_the_page_only_if_there_are_reports(tmp_path, monkeypatch):
    made = summary_of(report("minilm", "fp16", "ios18"))
    summary, output = tmp_path / "summary.json", tmp_path / "index.html"
    write_json(summary, made)
    write_json(tmp_path / "manifest.json", manifest_of(made))
    arguments = ["--summary", str(summary), "--manifest", str(tmp_path / "manifest.json")]
    arguments += ["--output", str(output), "--slice"]
    assert main([*arguments, '{"divergence": false, "models": {}}']) == 0
    count = len(interface.FRAMES) + len(details.FRAMES)
    assert len(data_of(output.read_text())["frames"]) == count
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "results/divergence/minilm/fp16/ios18.json", divergence())
    assert main([*arguments, '{"divergence": true, "models": {}}']) == 0
    data = data_of(output.read_text())
    assert len(data["frames"]) == len(data["builds"][0]["details"]) == count + 2
    layers = len(interface.FRAMES) + 2
    assert data["frames"][layers]["title"] == "Layers that introduce the largest error"
    assert data["builds"][0]["details"][layers][0][0] == "aten.linear.default @ encoder.3"


@pytest.mark.parametrize(("count", "says"), [(1, "The build passes"), (2, "All 2 builds pass")])
def test_headline(count, says):
    made = [report("minilm", "fp16", f"ios{17 + i}") for i in range(count)]
    assert f"<h1>{says}</h1>" in render(summary_of(*made))


def test_a_large_matrix_stays_small():
    """A thousand builds open in a browser: the page test looks at the speed."""
    made = [report(f"model_{i:02}", "lut4", f"ios18_{j:02}") for i in range(20) for j in range(50)]
    assert len(render(summary_of(*made)).encode()) < 5e6


def manifest_of(summary: dict) -> dict:
    return {
        "environment": {"versions": {"torch": "2.13.0"}, "lock_sha256": "ef" * 32},
        "models": {"minilm": {"files": {"weights": {"path": "w", "sha256": "cd" * 32}}}},
        "artifacts": {b["paths"]["pte"]: {"inputs": "ab" * 32} for b in summary["builds"]},
    }


def test_digests_and_versions_come_from_the_manifest():
    made = summary_of(report("minilm", "fp16", "ios18"))
    pages = [render(made), render(made, manifest_of(made))]
    assert "torch 2.13.0" in pages[1]
    files = data_of(pages[1])["builds"][0]["details"][-1]
    assert files[-3:] == [
        ["all inputs", "ab" * 32],
        ["lock file", "ef" * 32],
        ["model's weights", "cd" * 32],
    ]
    assert "torch 2.13.0" not in pages[0]


def test_the_same_summary_gives_the_same_page():
    assert render(summarize(reports())) == render(summarize(reports()))


def test_the_report_does_not_import_torch():
    """It runs at the end of every build; torch alone would triple its time."""
    modules = "pte_foundry.steps.report, pte_foundry.steps.summary, pte_foundry.report.table"
    code = f"import {modules}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
