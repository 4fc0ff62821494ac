"""Protects the choice of the build to ship, and what sizes are compared with."""

import pytest
from pte_foundry.report import choice
from pte_foundry.report.summary import summarize

from tests.made_up_reports import path_of, report


def builds_of(*made: dict) -> list:
    return summarize({path_of(one): one for one in made})["builds"]


def named(builds: list, one: choice.Choice) -> str | None:
    return None if one.index is None else "/".join(builds[one.index]["build"].values())


def test_the_smallest_that_passes_for_each_os_and_units():
    failing = report("minilm", "int4_per_axis", "ios18") | {"status": "fail"}
    builds = builds_of(
        report("minilm", "fp16", "ios16"),
        report("minilm", "int8_static", "ios17"),
        report("minilm", "fp16", "ios18_ne"),
        report("minilm", "lut4", "ios18"),
        failing,
    )
    found = {(one.minimum_os, one.compute_units): one for one in choice.choices(builds)}
    assert {place: named(builds, one) for place, one in found.items()} == {
        ("iOS16", "all"): "minilm/fp16/ios16",
        ("iOS17", "all"): "minilm/int8_static/ios17",
        ("iOS18", "all"): "minilm/lut4/ios18",
        ("iOS18", "cpu_and_ne"): "minilm/fp16/ios18_ne",
    }
    assert found["iOS16", "all"].reason == "the only build"
    assert found["iOS17", "all"].reason == "the smallest of 2 that pass"
    assert found["iOS18", "all"].reason == "the smallest of 3 that pass; 1 fails"


def test_an_older_build_that_is_smaller_is_chosen_for_the_newer_os():
    builds = builds_of(report("minilm", "lut1", "ios16"), report("minilm", "fp16", "ios18"))
    newer = choice.choices(builds)[1]
    assert newer.minimum_os == "iOS18"
    assert named(builds, newer) == "minilm/lut1/ios16"
    assert "misses a gate that only warns" in newer.reason


def test_no_build_is_chosen_if_none_passes():
    (one,) = choice.choices(builds_of(report("minilm", "fp16", "ios18") | {"status": "fail"}))
    assert one.index is None
    assert one.reason == "none of 1 build passes"


def test_macos_is_not_a_newer_ios():
    mac = report("minilm", "fp16", "macos15")
    mac["target_details"]["minimum_os"] = "macOS15"
    builds = builds_of(report("minilm", "lut1", "ios16"), mac)
    assert [named(builds, one) for one in choice.choices(builds)] == [
        "minilm/lut1/ios16",
        "minilm/fp16/macos15",
    ]


def test_sizes_are_compared_with_the_fp32_build_of_the_model_or_its_fp16_build():
    builds = builds_of(
        report("minilm", "fp32", "ios16"),
        report("minilm", "fp16", "ios16"),
        report("digits_cnn", "fp16", "ios16"),
        report("digits_cnn", "lut1", "ios18"),
        report("smollm2", "lut1", "ios18"),
    )
    recipes = [(build["build"]["model"], build["build"]["recipe"]) for build in builds]
    by_build = dict(zip(recipes, choice.times_smaller(builds), strict=True))
    assert by_build["minilm", "fp32"] == 1
    assert by_build["minilm", "fp16"] == pytest.approx(2, rel=0.01)
    assert by_build["digits_cnn", "fp16"] == 1
    assert by_build["digits_cnn", "lut1"] > 4
    assert by_build["smollm2", "lut1"] is None
