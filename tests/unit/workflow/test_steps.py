"""Protects that planning grows with the number of jobs and not faster, by counting, not by timing.

The rules ask once a job, so what they ask must be answered once for all jobs that get the same.
"""

import subprocess
import sys
from collections import Counter

import pytest
from pte_foundry.bench import matrix
from pte_foundry.config import config as config_module
from pte_foundry.config.config import Config, load
from pte_foundry.config.slices import slice_json
from pte_foundry.models.module import ModelModule, modules_table
from pte_foundry.workflow import plans, steps
from pte_foundry.workflow.steps import Steps
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
    slices = {str(config.slice("convert", model="perceptron_1", recipe=r)) for r in config.recipes}
    assert len(slices) == recipes, "no two recipes are the same"
    lowered = {config.lowering_key(target) for target in config.targets}
    assert len(lowered) < targets, "some targets share a Core ML program"


def test_what_is_planned_could_be_built(configs, tmp_path):
    """The model keeps the contract of models, and every recipe fits it."""
    config = configs[10_000]
    data = {"samples": config.root / "config/models/samples.csv"}
    module = config.root / config.models["perceptron_3"].module
    weights = tmp_path / "weights.safetensors"
    save_file(ModelModule.load(module, None, data, {"steps": 3}).train(), weights)
    model = ModelModule.load(module, weights, data, {"steps": 3})
    network = model.build()
    samples, _ = model.evaluation()
    assert len({model.run(network, sample)[0].argmax().item() for sample in samples}) > 1
    most = max(getattr(recipe, "calibration_samples", 0) for recipe in config.recipes.values())
    assert len(model.calibration(most)) == most
    config.check_structure({"perceptron_3": modules_table(network)})


def ask(asked: Steps) -> None:
    """What the rules ask for all jobs of a configuration."""
    config = asked.config
    for build in config.builds:
        for step in ("convert", "lower", "pte"):
            asked.code(step)
        asked.code("validate", build.model)
        asked.slice("convert", model=build.model, recipe=build.recipe)
        asked.slice("pte", target=build.target)
        key = asked.lowering_key(build.target)
        asked.slice("lower", target=config.target_of(key))
        asked.slice("validate", model=build.model, recipe=build.recipe, target=build.target)
        if config.calibrates(build.recipe):
            key = asked.activation_key(build.model, build.recipe)
            recipe = config.recipe_of(build.model, key)
            assert asked.activation_key(build.model, recipe) == key
            asked.slice("calibrate", model=build.model, recipe=recipe)


def test_every_answer_is_found_once(configs, monkeypatch):
    config = configs[1_000]
    digests, dumped = Counter(), Counter()

    def digest(files, lock, root):
        digests[tuple(files)] += 1
        return "0"

    def counted(part):
        dumped[type(part).__name__] += 1
        return part.model_dump(mode="json")

    monkeypatch.setattr(steps, "digest", digest)
    monkeypatch.setattr(config_module, "plain", counted)
    ask(Steps(config))
    models, recipes, targets = matrix.SHAPES[1_000]
    assert sum(digests.values()) == 3 + models
    assert set(digests.values()) == {1}
    # Of each target: its lowering key, once for the rule and once to find it by, and two slices.
    assert dumped["Target"] <= 4 * targets
    # Of each model and recipe one conversion.
    assert dumped["NoneRecipe"] + dumped["Pt2eRecipe"] + dumped["QuantizeRecipe"] == (
        models * recipes
    )


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
    ask(Steps(config))
    assert CountedBuilds.passes <= 3  # ask() itself, builds by names, recipes by activation key


def test_the_step_after_all_builds_is_started_with_a_short_command(configs):
    """One argument holds the whole command of a rule, and 10,000 builds in it were too long."""
    config = configs[10_000]
    builds: dict = {}
    for build in config.builds:
        builds.setdefault(build.model, {}).setdefault(build.recipe, []).append(build.target)
    assert len(slice_json(builds)) > LONGEST_ARGUMENT
    assert len(plans.digest(builds)) == 64


def test_a_plan_is_read_by_its_digest(tmp_path):
    plan = {"builds": {"b": {"r": ["t"]}}, "devices": ["host"]}
    path = tmp_path / "plan.json"
    plans.write(path, plan)
    assert plans.read(path, plans.digest(dict(reversed(plan.items())))) == plan
    other = plan | {"devices": []}
    assert plans.digest(other) != plans.digest(plan)
    with pytest.raises(plans.DamagedError, match="plan of another run"):
        plans.read(path, plans.digest(other))


def test_structure_is_unknown_without_results_and_wrong_configurations_are_told(tmp_path):
    matrix.make(tmp_path, 100)

    def run() -> subprocess.CompletedProcess:
        command = [sys.executable, "-m", "pte_foundry.workflow.structure", "config/config.yaml"]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    done = run()
    assert (done.returncode, done.stdout) == (3, "ok: 100 builds\n"), done.stderr
    path = tmp_path / "config/config.yaml"
    path.write_text(path.read_text().replace("minimum_os: iOS18\n", "minimum_os: iOS17\n", 1))
    done = run()
    assert done.returncode == 1
    assert "needs iOS18" in done.stdout
