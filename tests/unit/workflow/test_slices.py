"""What reaches which stage of the configuration: this decides what is rebuilt after an edit.

An edit must change the slices of the stages that it matters to, and no other.
"""

import copy
import json
from typing import Literal

import pytest
from pte_foundry.config.config import Config
from pte_foundry.config.recipes import SCHEMES
from pte_foundry.errors import ConfigError
from pte_foundry.quantize import schemes
from pte_foundry.workflow.jobs import Jobs

MODULE = """
def build(weights, width=8): ...
def example_inputs(): ...
def calibration(data, shots=2): return data["samples"]
def evaluation(data, count=3): ...
def train(data, epochs=1): ...
"""
DATA = {
    "models": {
        "net": {
            "module": "net.py",
            "weights": {"train": True},
            "data": {"samples": {"file": "samples.bin", "sha256": "0" * 64}},
            "options": {"width": 4, "count": 2, "epochs": 9, "shots": 1},
        }
    },
    "recipes": {
        "plain": {"scheme": "none"},
        "static": {"scheme": "pt2e", "global_config": {}, "module_name_configs": {"a": {}}},
        "weights": {"scheme": "pt2e", "global_config": {"activation_dtype": "float32"}},
        "rows": {"scheme": "quantize", "steps": [{"affine": {}}]},
    },
    "targets": {
        "phone": {"minimum_os": "iOS18"},
        "desk": {"minimum_os": "macOS15", "compute_units": "cpu_only"},
        "old": {"minimum_os": "iOS17"},
    },
    "builds": [{"models": "*", "recipes": "*", "targets": "*"}],
}


@pytest.fixture
def parsed(tmp_path):
    """A function that parses the configuration above after an edit."""
    (tmp_path / "net.py").write_text(MODULE)
    (tmp_path / "samples.bin").write_bytes(b"")

    def parse(edit=lambda data: None):
        data = copy.deepcopy(DATA)
        edit(data)
        return Jobs(Config.parse(data, [], tmp_path))

    return parse


def everything(jobs):
    """All slices and keys of a configuration, by stage and names."""
    net, config = {"model": "net"}, jobs.config
    slices = {
        "fetch": jobs.slice("fetch", **net, name="samples"),
        **{stage: jobs.slice(stage, **net) for stage in ("model", "train", "export", "reference")},
    }
    for name, recipe in config.recipes.items():
        slices[f"convert {name}"] = jobs.slice("convert", **net, recipe=name)
        if recipe.calibrates:
            slices[f"calibrate {name}"] = jobs.slice("calibrate", **net, recipe=name)
            slices[f"activation_key {name}"] = jobs.activation_key("net", name)
    for name in config.targets:
        slices[f"lower {name}"] = jobs.slice("lower", target=name)
        slices[f"lowering_key {name}"] = jobs.lowering_key(name)
        slices[f"pte {name}"] = jobs.slice("pte", target=name)
    for build in config.builds:
        names = {"model": build.model, "recipe": build.recipe, "target": build.target}
        part = jobs.slice("validate", **names, device="host")
        slices["validate " + "/".join(names.values())] = part
    return {name: json.dumps(part, sort_keys=True) for name, part in slices.items()}


def changed(parsed, edit):
    before, after = everything(parsed()), everything(parsed(edit))
    return {name.split(" ")[0] for name in before if after.get(name) != before[name]} | {
        f"new {name.split(' ')[0]}" for name in after if name not in before
    }


def setting(*path, value):
    def edit(data):
        node = data
        for key in path[:-1]:
            node = node.setdefault(key, {}) if isinstance(node, dict) else node[key]
        node[path[-1]] = value

    return edit


STATIC = ("recipes", "static", "global_config")
NET = ("models", "net", "options")
ROWS = ("recipes", "rows", "steps", 0, "affine")
PHONE = ("targets", "phone")
STATES = (*PHONE, "partitioner", "take_over_mutable_buffer")
LOWERING = {"lower", "lowering_key"}
CALIBRATION = {"calibrate", "activation_key", "convert"}


@pytest.mark.parametrize(
    ("edit", "stages"),
    [
        (setting(*STATIC, "weight_per_channel", value=False), {"convert"}),
        (setting(*STATIC, "weight_observer", value="min_max"), {"convert"}),
        (setting(*STATIC, "activation_observer", value="min_max"), CALIBRATION),
        (setting("recipes", "static", "calibration_samples", value=3), CALIBRATION),
        (setting("recipes", "static", "module_name_configs", "a", value=None), CALIBRATION),
        (
            setting("recipes", "rows", "steps", 0, "affine", "scale_dtype", value="float16"),
            {"convert"},
        ),
        (setting("recipes", "static", "gates", value={"cosine": {"min": 0}}), {"validate"}),
        (setting("gates", value={"cosine": {"min": 0, "on_fail": "warn"}}), {"validate"}),
        (setting("builds", 0, "gates", value={"cosine": {"min": 0}}), {"validate"}),
        (setting(*PHONE, "compute_units", value="cpu_and_ne"), {"pte", "validate"}),
        (setting(*PHONE, "minimum_os", value="iOS26"), {*LOWERING, "pte", "validate"}),
        (setting(*PHONE, "minimum_os", value="macOS15"), {"validate"}),
        (setting(*PHONE, "pass_pipeline", value=["common::dce"]), LOWERING),
        (setting(*PHONE, "partitioner", "take_over_mutable_buffer", value=True), set()),
        (
            setting(*PHONE, "partitioner", "take_over_mutable_buffer", value=False),
            {*LOWERING, "pte"},
        ),
        (setting("targets", "desk", "compute_units", value="all"), {"pte", "validate"}),
        (setting(*NET, "epochs", value=1), {"train"}),
        (setting(*NET, "count", value=1), {"reference", "validate"}),
        (setting(*NET, "shots", value=2), {"calibrate", "activation_key"}),
        (setting(*NET, "width", value=1), {"export", "reference", *CALIBRATION}),
        (setting("models", "net", "weights", "sha256", value="1" * 64), {"train"}),
        (setting("models", "net", "data", "samples", "sha256", value="1" * 64), {"fetch", "model"}),
        (setting("recipes", "more", value={"scheme": "none"}), {"new convert", "new validate"}),
        (setting("devices", value={"host": {"kind": "interpreter"}}), set()),
    ],
)
def test_an_edit_reaches_only_its_stages(edit, stages, parsed):
    assert changed(parsed, edit) == stages


def test_the_order_of_keys_does_not_matter(parsed):
    def reverse(node):
        if isinstance(node, dict):
            for key in list(node)[::-1]:
                reverse(node[key])
                node[key] = node.pop(key)

    assert changed(parsed, reverse) == set()


def test_swapped_values_are_seen(parsed):
    def swapped(data):
        data["recipes"]["rows"]["steps"][0]["affine"] = {
            "granularity": {"group_size": 32},
            "scale_dtype": "float16",
        }
        del data["targets"]["old"]

    one, other = parsed(), parsed(swapped)
    names = {"model": "net", "recipe": "rows"}
    assert one.slice("convert", **names) != other.slice("convert", **names)


def test_equal_programs_share_one_lowering(parsed):
    jobs = parsed()
    assert jobs.lowering_key("phone") == jobs.lowering_key("desk")
    assert jobs.lowering_key("old") != jobs.lowering_key("phone")
    assert jobs.lowering_key("phone").startswith("ios18-float16-")
    assert jobs.target_of(jobs.lowering_key("old")) == "old"
    key = jobs.activation_key("net", "static")
    assert jobs.recipe_of("net", key) == "static"


def test_slices_are_plain_and_hold_no_names(parsed):
    for name, text in everything(parsed()).items():
        part = json.loads(text)
        assert not {"phone", "desk", "net", "static"} & set(str(part).replace("'", " ").split()), (
            name
        )


def test_weight_only_recipes_do_not_calibrate(parsed):
    jobs = parsed()
    assert [name for name, r in jobs.config.recipes.items() if r.calibrates] == ["static"]
    with pytest.raises(ValueError, match="no calibration"):
        jobs.activation_key("net", "weights")


def test_parts_with_float_weights_are_not_calibrated(parsed):
    edit = setting("recipes", "static", "module_name_configs", "a", "weight_dtype", value="float32")
    part = parsed(edit).part("calibrate", model="net", recipe="static")
    assert part["activations"]["module_name_configs"] == {"a": None}
    assert set(part["activations"]["global_config"]) == {
        "quantization_scheme",
        "activation_dtype",
        "activation_observer",
    }


def test_states_follow_the_system(parsed):
    jobs = parsed()
    assert jobs.part("pte", target="phone")["states"] is True
    assert jobs.part("pte", target="old")["states"] is False
    assert jobs.config.targets["old"].specification_version == 8


def gates_of(jobs, recipe, target="phone"):
    names = {"model": "net", "recipe": recipe, "target": target}
    return jobs.part("validate", **names, device="host")["gates"]


def test_later_gates_win_and_null_removes(parsed):
    def edit(data):
        one = {"min": 1}
        data["gates"] = {"sqnr_db": one, "hazards": None, "cosine": one, "bytes": one}
        data["recipes"]["plain"]["gates"] = {"sqnr_db": {"min": 2}, "cosine": None}
        data["builds"][0]["gates"] = {"bytes": {"max": 3, "on_fail": "warn"}}

    gates = gates_of(parsed(edit), "plain")
    assert sorted(gates) == ["bytes", "delegated_fraction", "equal_fraction", "sqnr_db"]
    assert gates["sqnr_db"] == {"min": 2, "max": None, "on_fail": "fail", "optional": False}
    assert gates["bytes"] == {"min": None, "max": 3, "on_fail": "warn", "optional": False}


def test_default_gates_come_from_the_scheme(parsed):
    def edit(data):
        data["targets"]["old"]["compute_precision"] = "float32"
        data["targets"]["desk"]["partitioner"] = {
            "skip_ops_for_coreml_delegation": ["aten.mm.default"]
        }
        data["targets"]["phone"]["op_linear_quantizer_config"] = {"dtype": "int4"}

    jobs = parsed(edit)
    assert gates_of(jobs, "plain", "old")["sqnr_db"]["min"] == 90
    assert gates_of(jobs, "plain", "desk")["sqnr_db"]["min"] == 45
    assert gates_of(jobs, "plain", "phone")["sqnr_db"]["min"] == 5
    assert gates_of(jobs, "static", "old")["sqnr_db"]["min"] == 12
    assert gates_of(jobs, "weights", "old")["sqnr_db"]["min"] == 18
    assert gates_of(jobs, "rows", "old")["hazards"]["max"] == 0
    assert gates_of(jobs, "rows", "old")["delegated_fraction"]["min"] == 1
    assert "delegated_fraction" not in gates_of(jobs, "rows", "desk")


def test_what_is_not_built_cannot_be_validated(parsed):
    jobs = parsed(setting("builds", 0, "targets", value=["old"]))
    with pytest.raises(ConfigError, match=r"net/rows/phone is not among the builds, .*add it"):
        gates_of(jobs, "rows", "phone")


def test_steps_reach_conversion_flat(parsed):
    """As quantize.weight_only reads them: scheme, filter and config on one level, all explicit."""
    (step,) = parsed().part("convert", model="net", recipe="rows")["recipe"]["steps"]
    assert step["scheme"] == "affine"
    assert step["types"] == ["torch.nn.Linear", "torch.nn.Embedding"]
    assert step["granularity"] == {"axis": 0}
    assert "modules" not in step


@pytest.mark.parametrize(
    ("source", "kind", "filename"),
    [
        ({"file": "samples.bin"}, "file", "samples.bin"),
        ({"url": "https://host/a/b%20c.bin?x=/y"}, "url", "b c.bin"),
        ({"package": "pydantic", "file": "pydantic/main.py"}, "package", "main.py"),
    ],
)
def test_sources_have_a_kind_and_a_file_name(source, kind, filename, parsed):
    data = setting("models", "net", "data", "samples", value=source | {"sha256": "0" * 64})
    jobs = parsed(data)
    net = jobs.config.models["net"]
    assert net.data["samples"].kind == kind
    assert net.data["samples"].filename == filename
    assert net.weights.kind == "train"
    assert jobs.part("fetch", model="net", name="samples") == source | {"sha256": "0" * 64}
    assert jobs.part("plan", model="net")["data"]["samples"]["sha256"] == "0" * 64


def test_the_manifest_gets_what_is_built(parsed):
    def only_plain(data):
        data["builds"][0] |= {"recipes": ["plain"], "targets": ["old"]}

    part = parsed(only_plain).part("plan", model="net")
    assert part["recipes"] == {"plain": {"scheme": "none"}}
    assert list(part["targets"]) == ["old"]
    assert part["targets"]["old"]["compute_units"] == "all"


def test_a_device_reaches_its_validation(parsed):
    names = {"model": "net", "recipe": "plain", "target": "old", "device": "host"}
    device = parsed().part("validate", **names)["device"]
    assert device == {"kind": "interpreter", "engine": "mil-reference"}


def test_every_scheme_has_a_module_of_its_name():
    for name, kind in SCHEMES.items():
        assert kind.model_fields["scheme"].annotation == Literal[name]
        assert callable(schemes.load(name).findings)


def test_a_recipe_knows_that_other_models_use_its_names(parsed):
    """Then a name that a model lacks is for another one; the conversion must not refuse it."""

    def two(data):
        data["models"]["other"] = copy.deepcopy(data["models"]["net"])

    def only_net(data):
        two(data)
        data["builds"][0]["models"] = ["net"]

    shared, alone = parsed(two), parsed(only_net)
    assert shared.part("convert", model="net", recipe="static")["recipe"]["shared"]
    assert "shared" not in alone.part("convert", model="net", recipe="static")["recipe"]
    for recipe in ("plain", "weights", "rows"):  # no names: another model rebuilds nothing
        slices = [jobs.part("convert", model="net", recipe=recipe) for jobs in (shared, alone)]
        assert slices[0] == slices[1]


def test_a_name_must_be_in_one_of_the_models_that_use_it(parsed):
    """And it is refused once, when the modules of all of them are known."""

    def two(data):
        data["models"]["other"] = copy.deepcopy(data["models"]["net"])

    config = parsed(two).config
    row = {"name": "", "type": "t.Net", "types": ["t.Net"], "weight": None}
    linear = "torch.nn.modules.linear.Linear"
    has = {"name": "a", "type": linear, "types": ["torch.nn.Linear", linear], "weight": [8, 8]}
    lacks = has | {"name": "ab"}
    config.check_structure({"net": [row, has], "other": [row, lacks]})
    config.check_structure({"net": [row, lacks]})  # the other may have it
    with pytest.raises(ConfigError, match=r"(?s)1 error:.*module_name_configs\.a.*net, other"):
        config.check_structure({"net": [row, lacks], "other": [row, lacks]})
