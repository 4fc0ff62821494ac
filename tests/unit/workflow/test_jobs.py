"""Protects that planning grows with the number of jobs and not faster, by counting, not by timing.

The rules ask once a job, so what they ask must be answered once for all jobs that get the same.
"""

import dataclasses
import subprocess
import sys
from collections import Counter

import pytest
from pte_foundry.bench import matrix
from pte_foundry.config.config import Config, load
from pte_foundry.models.module import ModelModule
from pte_foundry.models.structure import modules_table
from pte_foundry.workflow import jobs, slices
from pte_foundry.workflow.jobs import Jobs
from safetensors.torch import save_file

LONGEST_ARGUMENT = 128 * 1024  # bytes: MAX_ARG_STRLEN of Linux


@pytest.fixture(scope="module")
def configs(tmp_path_factory) -> dict[int, Config]:
    """The configurations of the planning benchmark, by number of builds."""
    loaded = {}
    for builds in matrix.SHAPES:
        folder = tmp_path_factory.mktemp(f"matrix_{builds}")
        matrix.make(folder, builds)
        loaded[builds] = load([folder / "config/config.yaml"], folder)
    return loaded


@pytest.mark.parametrize("builds", matrix.SHAPES)
def test_the_benchmark_s_configurations_are_valid_and_as_large_as_they_say(configs, builds):
    config = configs[builds]
    assert len(config.builds) == builds
    models, recipes, targets = matrix.SHAPES[builds]
    assert (len(config.models), len(config.recipes), len(config.targets)) == (
        models,
        recipes,
        targets,
    )
    schemes = {recipe.scheme for recipe in config.recipes.values()}
    assert schemes == {"none", "pt2e", "quantize"}
    converted = {str(config.recipe(r)) for r in config.recipes}
    assert len(converted) == recipes, "no two recipes are the same"
    lowered = {Jobs(config).lowering_key(target) for target in config.targets}
    assert len(lowered) < targets, "some targets share a Core ML program"


def test_what_is_planned_could_be_built(configs, tmp_path):
    """The model keeps the contract of models, and every recipe fits it."""
    config = configs[10_000]
    data = {"samples": config.project("perceptron_3") / "config/models/samples.csv"}
    module = config.module_file("perceptron_3")
    weights = tmp_path / "weights.safetensors"
    save_file(ModelModule.load(module, None, data, {"steps": 3}).train(), weights)
    model = ModelModule.load(module, weights, data, {"steps": 3})
    network = model.build()
    samples, _ = model.evaluation()
    assert len({model.run(network, sample)[0].argmax().item() for sample in samples}) > 1
    most = max(getattr(recipe, "calibration_samples", 0) for recipe in config.recipes.values())
    assert len(model.calibration(most)) == most
    config.check_structure({"perceptron_3": modules_table(network)})


def ask(asked: Jobs) -> None:
    """What the rules ask for all jobs of a configuration."""
    config = asked.config
    for build in config.builds:
        names = {"model": build.model, "recipe": build.recipe}
        for stage in ("lower", "pte"):
            asked.code(stage)
        asked.code("validate", build.model)
        asked.code("convert", build.model, config.recipes[build.recipe].scheme)
        asked.slice("convert", **names)
        asked.slice("pte", target=build.target)
        asked.slice("plan", model=build.model)
        key = asked.lowering_key(build.target)
        asked.slice("lower", target=asked.target_of(key))
        asked.slice("validate", **names, target=build.target, device="host")
        if config.recipes[build.recipe].calibrates:
            key = asked.activation_key(build.model, build.recipe)
            recipe = asked.recipe_of(build.model, key)
            assert asked.activation_key(build.model, recipe) == key
            asked.slice("calibrate", model=build.model, recipe=recipe)


def test_every_answer_is_found_once(configs, monkeypatch):
    config = configs[1_000]
    digests, parts = Counter(), Counter()

    def contents(files, lock):
        digests[tuple(files)] += 1
        return {}

    def lowered(config, target):
        parts[target] += 1
        return real(config, target)

    real = slices.lower
    monkeypatch.setattr(jobs, "contents", contents)
    monkeypatch.setattr(slices, "lower", lowered)
    monkeypatch.setitem(
        jobs.STAGES, "lower", dataclasses.replace(jobs.STAGES["lower"], slice=lowered)
    )
    ask(Jobs(config))
    models, _, _ = matrix.SHAPES[1_000]
    schemes = {recipe.scheme for recipe in config.recipes.values()}
    conversions = models * len(schemes)  # the model's module and the scheme's
    assert sum(digests.values()) == 2 + models + conversions
    # Of each target: its lowering key and its slice share one; each model's plan has one more.
    assert set(parts.values()) == {1 + models}


class CountedBuilds(tuple):
    """Builds that count how often somebody goes through all of them."""

    passes = 0

    def __iter__(self):
        CountedBuilds.passes += 1
        return super().__iter__()


def test_no_job_goes_through_all_builds(configs):
    """That would make planning quadratic."""
    whole = configs[1_000]
    fields = {name: getattr(whole, name) for name in Config.__dataclass_fields__}
    config = Config(**fields | {"builds": CountedBuilds(whole.builds)})
    CountedBuilds.passes = 0
    ask(Jobs(config))
    # ask() itself, builds by names, recipes by activation key, builds by model.
    assert CountedBuilds.passes <= 4


@pytest.mark.parametrize("builds", matrix.SHAPES)
def test_no_plan_exceeds_a_command_line(configs, builds):
    asked = Jobs(configs[builds])
    assert all(
        len(asked.slice("plan", model=model)) < LONGEST_ARGUMENT // 8
        for model in asked.config.built_models
    )


def test_structure_is_unknown_without_results_and_wrong_configurations_are_told(tmp_path):
    matrix.make(tmp_path, 100)

    def run() -> subprocess.CompletedProcess:
        command = [
            sys.executable,
            "-m",
            "pte_foundry.cli",
            "check",
            "--structure",
            "config/config.yaml",
        ]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run()
    assert done.returncode == 3, done.stderr
    assert done.stdout.startswith("ok: 100 builds\nstructure not known yet: perceptron_1,")
    path = tmp_path / "config/config.yaml"
    path.write_text(path.read_text().replace("minimum_os: iOS18\n", "minimum_os: iOS17\n", 1))
    done = run()
    assert done.returncode == 1
    assert "needs iOS18" in done.stdout + done.stderr
