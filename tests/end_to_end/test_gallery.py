"""Builds the gallery by the real rules: what people copy is right, in reports and on the page."""

import json

import pytest

from tests.project import ROOT, Project

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    config = (ROOT / "config/gallery.yaml").read_text(encoding="utf-8")
    built = Project(tmp_path_factory.mktemp("gallery"), config)
    built.build()
    return built


@pytest.fixture(scope="module")
def builds(project):
    records = json.loads(project.read("results/summary.json"))["builds"]
    return {"/".join(record["build"].values()): record for record in records}


def accepted(build):
    """The shapes that each input of the artifact takes, if they are several."""
    return build["artifact"].get("accepts", {})


def weights(build):
    return sum(build["artifact"]["weight_bytes"].values())


def test_all_builds_pass_in_core_ml_alone(builds):
    assert len(builds) == 17
    for name, build in builds.items():
        assert build["status"] == "pass", name
        assert build["artifact"]["delegated_fraction"] == 1.0, name
        assert not build["hazards"], name
    for name, build in builds.items():
        if "/fp16/" in name:
            assert build["metrics"]["sqnr_db"] > 60, name


def test_a_dynamic_batch_is_a_range_or_one_size_as_the_target_says(builds):
    assert accepted(builds["any_batch/fp16/ios18"]) == {"forward": {"rows": "fp32[1..64, 32]"}}
    assert accepted(builds["any_batch/int8_weight_only/ios18_fixed"]) == {}
    four, six = (builds[f"any_batch/lut_bits{bits}/ios18"] for bits in (4, 6))
    assert weights(four) < weights(six) < weights(builds["any_batch/fp16/ios18"])


def test_image_sizes_are_those_of_the_list_or_a_range(builds):
    listed, ranged = (
        accepted(builds[f"image_sizes/int8_weight_only/{target}"])["forward"]["image"]
        for target in ("ios18", "ios18_range")
    )
    assert listed.endswith("in the shapes [1, 3, 24, 32], [1, 3, 32, 24], [1, 3, 32, 32]")
    assert ranged == "fp32[1, 3, 8..64, 8..64]"


def test_sound_streams_through_states_or_through_buffers_of_executorch(builds):
    device, older = (
        builds[f"streaming_audio/{build}"] for build in ("fp16/ios18", "int8_weight_only/ios17")
    )
    assert device["artifact"]["states"] == ["heard", "past"]
    assert older["artifact"]["states"] == []
    for build in (device, older):
        assert [output["name"] for output in build["outputs"]] == ["sound", "mask"]


@pytest.mark.parametrize(
    ("model", "first"), [("encoder_decoder", "encode"), ("cached_decoder", "prefill")]
)
def test_methods_are_measured_and_share_their_weights(builds, model, first):
    for recipe in ("fp16", "int4_group32"):
        build = builds[f"{model}/{recipe}/ios18"]
        found = {method["name"]: method["calls"] for method in build["methods"]}
        assert found == {first: 2, "decode": 4}
        assert build["artifact"]["unshared_weight_bytes"] > weights(build)


def test_older_systems_have_a_copy_of_the_weights_for_each_method(builds):
    older = builds["cached_decoder/int8_static/ios17"]
    assert {method["name"] for method in older["methods"]} == {"prefill", "decode"}
    assert "unshared_weight_bytes" not in older["artifact"]


def test_an_lstm_is_one_operation_for_each_layer(builds):
    assert builds["sequence_tagger/fp16/ios18"]["artifact"]["ops"]["lstm"] == 2


def test_outputs_have_the_names_of_their_keys_and_are_judged_one_by_one(builds):
    outputs = builds["object_detector/fp16/ios18"]["outputs"]
    assert [output["name"] for output in outputs] == ["boxes", "scores"]
    assert all(output["sqnr_db"] > 60 for output in outputs)


def test_the_page_shows_methods_states_and_sizes(project):
    page = project.read("results/report/index.html")
    listed = "[1, 3, 24, 32], [1, 3, 32, 24] or [1, 3, 32, 32]"
    for words in ("Swift, decode", '["state","heard"', "[1…64, 32]", listed):
        assert words in page, words
