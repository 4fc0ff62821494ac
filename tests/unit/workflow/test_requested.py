"""Protects what is told about files asked for by path: as for builds, with the nearest name."""

from pathlib import Path

import pytest
from pte_foundry.config.config import load
from pte_foundry.errors import ConfigError
from pte_foundry.place import Folder
from pte_foundry.workflow.jobs import Jobs
from pte_foundry.workflow.requested import check_requested

CONFIG = """\
models:
  net: {module: net.py, weights: {train: true}}
  other_net: {module: net.py, weights: {train: true}}
recipes:
  plain: {scheme: none}
  static: {scheme: pt2e}
  lut4: {scheme: quantize, steps: [{codebook: {dtype: uint4, block_size: [-1, -1]}}]}
targets:
  old: {minimum_os: iOS16}
  phone: {minimum_os: iOS18}
builds:
  - {models: [net], recipes: [plain], targets: [phone]}
"""
NET = "def build(): ...\ndef train(): ...\ndef example_inputs(): ...\ndef evaluation(): ...\n"
# With constraints, as Snakemake writes them into its patterns.
PRODUCTS = {
    "pte": ["results/pte/{model,net|other_net}/{recipe}/{target}.pte"],
    "validate": ["results/validation/{model}/{recipe}/{target}/{device}.json"],
    "diverge": ["results/divergence/{model}/{recipe}/{target}.json"],
    "convert": ["results/convert/{model}/{recipe}.pt2"],
    "export": ["results/export/{model}.pt2", "results/export/{model}.json"],
    "edge": ["results/edge/{model}/{program}/{key}.pt2"],
    "lower": ["results/lower/{model}/{recipe}/{key}.pte"],
    "calibrate": ["results/calibrate/{model}/{key}.json"],
    "fetch": ["results/fetch/{model}/{name}/{file}"],
    "summary": ["results/summary.json"],
}


@pytest.fixture(scope="module")
def jobs(tmp_path_factory) -> Jobs:
    folder = tmp_path_factory.mktemp("project")
    (folder / "net.py").write_text(NET + "def calibration(samples): ...\n")
    (folder / "config.yaml").write_text(CONFIG)
    return Jobs(load([folder / "config.yaml"], folder))


def refusal(jobs: Jobs, *paths: str) -> str:
    with pytest.raises(ConfigError) as error:
        check_requested(jobs, paths, PRODUCTS, Folder())
    return str(error.value)


@pytest.mark.parametrize(
    "path",
    [
        "results/pte/net/plain/phone.pte",
        "results/pte/other_net/lut4/phone.pte",  # not among the builds, and possible
        "./results/convert/net/static.pt2",
        "results/validation/net/plain/phone/host.json",
        "results/edge/net/_float/default.pt2",
        "results/fetch/net/weights/a.bin",
        "results/summary.json",
        "all",
        "some/file.of/another/rule.pte",
    ],
)
def test_what_can_be_made_is_accepted(jobs, path):
    check_requested(jobs, [path, str(Path(path).absolute())], PRODUCTS, Folder())


@pytest.mark.parametrize("path", ["pte/net/lut4/old.pte", "divergence/net/lut4/old.json"])
def test_a_combination_that_cannot_work_is_refused_as_in_builds(jobs, path):
    for form in (f"results/{path}", f"./results/{path}", str(Path(f"results/{path}").absolute())):
        message = refusal(jobs, form)
        assert f"results/{path}\n" in message
        assert "recipe lut4 needs iOS18 / macOS15" in message
        assert "raise targets.old.minimum_os to iOS18" in message


def test_a_lowering_is_refused_by_the_target_of_its_key(jobs):
    key = jobs.lowering_key("old")
    assert "needs iOS18" in refusal(jobs, f"results/lower/net/lut4/{key}.pte")
    check_requested(jobs, [f"results/lower/net/plain/{key}.pte"], PRODUCTS, Folder())


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("results/pte/nett/plain/phone.pte", "no model nett/did you mean net?"),
        ("results/pte/net/plain/fone.pte", "no target fone/did you mean phone?"),
        ("results/convert/net/lut44.pt2", "no recipe lut44/did you mean lut4?"),
        ("results/validation/net/plain/phone/hots.json", "no device hots/did you mean host?"),
        ("results/edge/net/statik/default.pt2", "no program statik/did you mean static?"),
        ("results/edge/net/static/defualt.pt2", "no key defualt/did you mean default?"),
        ("results/export/othernet.json", "no model othernet/did you mean other_net?"),
        ("results/fetch/net/wieghts/a", "no name wieghts/did you mean weights?"),
        ("results/calibrate/net/x.json", "no key x/choose one of these"),
        ("results/pte/net/plain/zzzzzz.pte", "no target zzzzzz/define it in the config"),
    ],
)
def test_a_typo_is_told_with_the_nearest_name(jobs, path, words):
    message = refusal(jobs, path)
    for part in words.split("/"):
        assert part in message, message


def test_all_is_told_at_once(jobs):
    paths = ["results/pte/nett/lut/fone.pte", "results/calibrate/nett/x.json"]
    message = refusal(jobs, *paths)
    assert message.count("no model nett") == 2
    for part in ("2 files", "no recipe lut", "no target fone"):
        assert part in message
    assert message.count(paths[0]) == 1


def test_a_validation_needs_the_gates_of_a_build(jobs):
    message = refusal(jobs, "results/validation/net/static/phone/host.json")
    assert "not among the builds" in message
    assert "{models: [net], recipes: [static], targets: [phone]}" in message


def test_structure_that_is_known_is_checked(jobs, monkeypatch):
    asked = {}
    monkeypatch.setattr(jobs, "known_modules", lambda results, models: {m: [] for m in models})
    check = type(jobs.config).check_structure
    monkeypatch.setattr(
        type(jobs.config),
        "check_structure",
        lambda self, modules, pairs: asked.update(pairs) or check(self, modules, pairs),
    )
    assert "lut4" in refusal(jobs, "results/pte/other_net/lut4/phone.pte")
    assert list(asked) == [("other_net", "lut4")]
