"""A recipe with lists stands for several: their names, their findings, and where they are named."""

import copy
import textwrap
from pathlib import Path

import jsonschema
import pytest
from pte_foundry.config.check_builds import combinations
from pte_foundry.config.config import check, load
from pte_foundry.config.layers import layered
from pte_foundry.config.schema import schema
from pte_foundry.config.sweep_options import classes, lists
from pte_foundry.config.sweeps import LARGEST, expand
from pte_foundry.errors import ConfigError
from pte_foundry.quantize.schemes import quantize as scheme
from pte_foundry.workflow import slices

MODULE = "def build(): ...\ndef example_inputs(): ...\ndef evaluation(): ...\ndef train(): ...\n"
CONFIG = {
    "models": {"net": {"module": "net.py", "weights": {"train": True}}},
    "recipes": {},
    "targets": {"phone": {"minimum_os": "iOS18"}},
    "builds": [{"models": "*", "recipes": "*", "targets": "*"}],
}


def steps(*configs, **gates):
    return {"scheme": "quantize", "steps": list(configs), **gates}


@pytest.fixture
def checked(tmp_path):
    """Returns the names of the builds' recipes, and the findings, of some recipes."""
    (tmp_path / "net.py").write_text(MODULE)

    def run(recipes, builds=None):
        data = copy.deepcopy(CONFIG) | {"recipes": recipes}
        data |= {"builds": builds} if builds else {}
        return check(layered(data, [], tmp_path))

    return run


def config(folder: Path, *texts: str):
    """Loads config files, a later one over the earlier ones."""
    (folder / "net.py").write_text(MODULE)
    files = []
    for at, text in enumerate(texts):
        files.append(folder / f"{at}.yaml")
        files[-1].write_text(textwrap.dedent(text))
    return load(files, folder)


BASE = """\
models: {net: {module: net.py, weights: {train: true}}}
recipes:
  lut:
    scheme: quantize
    gates: {bytes: {max: 9}}
    steps:
      - codebook:
          bits: [3, 4]
          group_size: [16, 32]
  plain: {scheme: none}
targets: {phone: {minimum_os: iOS18}}
builds: [{models: [net], recipes: [plain, lut], targets: [phone]}]
"""
FOUR = [f"lut_bits{bits}_group_size{size}" for bits in (3, 4) for size in (16, 32)]


@pytest.mark.parametrize(
    ("recipe", "names"),
    [
        (steps({"codebook": {"dtype": ["uint3", "uint6"], "block_size": [16, -1]}}),
         ["q_uint3", "q_uint6"]),
        (steps({"affine": {"bits": [4], "granularity": {"group_size": [16]}}}),
         ["q_bits4_group_size16"]),
        (steps({"affine": {"scale_dtype": [None, "float16"]}}),
         ["q_scale_dtype_null", "q_float16"]),
        (steps({"affine": {"bits": [4, 8]}}, {"codebook": {"bits": [1], "group_size": 2}}),
         ["q_affine_bits4_codebook_bits1", "q_affine_bits8_codebook_bits1"]),
        (steps({"affine": {"bits": [4]}}, {"affine": {"bits": [8]}}),
         ["q_step1_bits4_step2_bits8"]),
        (steps({"affine": {"weight_dtype": ["int4"], "mapping_type": ["symmetric"]}}),
         ["q_weight_dtype_int4_mapping_type_symmetric"]),
        ({"scheme": "pt2e", "global_config": {"weight_per_channel": [True, False]}},
         ["q_weight_per_channel_true", "q_weight_per_channel_false"]),
        ({"scheme": "pt2e", "calibration_samples": [8, 64]},
         ["q_calibration_samples8", "q_calibration_samples64"]),
        ({"scheme": "pt2e", "global_config": {"activation_observer": ["min_max"]},
          "module_type_configs": {"torch.nn.Linear": {"activation_observer": ["min_max"]}}},
         ["q_global_config_activation_observer_min_max_torch.nn.Linear_activation_observer_min_max"]),
        # Lists by nature.
        (steps({"modules": {"names": ["a*", "b*"], "exclude": ["c"], "types": ["torch.nn.Linear"]},
                "codebook": {"dtype": "uint3", "block_size": [16, -1]}}), ["q"]),
    ],
)  # fmt: skip
def test_names_of_recipes(checked, recipe, names):
    parsed, findings = checked({"q": recipe})
    assert not findings
    assert list(parsed.document.recipes) == names
    assert jsonschema.Draft202012Validator(schema()).is_valid(CONFIG | {"recipes": {"q": recipe}})


def test_recipes_are_those_that_one_would_write(tmp_path):
    """So they have the same digests, and give the same bytes."""
    swept = config(tmp_path, BASE)
    assert [build.recipe for build in swept.builds] == ["plain", *FOUR]
    written = {"dtype": "uint4", "block_size": [16, -1]}
    alone = expand({"recipes": {"one": steps({"codebook": written})}}).data["recipes"]["one"]
    assert alone == steps({"codebook": written})
    assert swept.recipe("lut_bits4_group_size16")["steps"] == [
        {"scheme": "codebook", "optional": False, "exclude": [], "names": ["*"], **written}
        | {"types": ["torch.nn.Linear", "torch.nn.Embedding"]}
    ]
    assert {build.gates["bytes"].max for build in swept.builds if build.recipe in FOUR} == {9}
    device = next(iter(swept.devices))
    sweeps = [slices.validate(swept, "net", b.recipe, "phone", device) for b in swept.builds]
    assert [one.get("sweep") for one in sweeps] == [None, *["lut"] * 4]


def test_a_new_value_leaves_the_other_recipes_alone(tmp_path):
    before = config(tmp_path, BASE)
    after = config(tmp_path, BASE.replace("[3, 4]", "[4, 2, 3]"))
    assert set(after.recipes) - set(before.recipes) == {
        f"lut_bits2_group_size{n}" for n in (16, 32)
    }
    for name in before.recipes:
        assert after.recipes[name] == before.recipes[name]


def test_layers_are_merged_before_a_sweep_is_expanded(tmp_path):
    overlay = """\
    extends: 0.yaml
    recipes:
      static: {scheme: pt2e, global_config: {weight_per_channel: true}}
      lut: {gates: {bytes: {max: 5}}}
    """
    config(tmp_path, BASE)
    found = config(tmp_path, BASE, overlay)
    assert {found.recipes[name].gates["bytes"].max for name in FOUR} == {5}
    third = (
        "extends: 1.yaml\nrecipes: {static: {global_config: {weight_per_channel: [true, false]}}}"
    )
    found = config(tmp_path, BASE, overlay, third)
    assert {"static_weight_per_channel_true", "static_weight_per_channel_false"} < set(
        found.recipes
    )
    fourth = f"{third}\nbuilds: [{{models: [net], recipes: [static], targets: [phone]}}]"
    assert len(config(tmp_path, BASE, overlay, fourth).builds) == 2


def test_builds_name_a_sweep_or_its_recipes(checked):
    q = {"q": steps({"affine": {"bits": [4, 8], "group_size": [16, 32]}}), "p": {"scheme": "none"}}

    def built(*recipes, **entry):
        parsed, findings = checked(
            q, [{"models": ["net"], "recipes": list(recipes), "targets": ["phone"], **entry}]
        )
        return [one.recipe for one in combinations(parsed, 0, parsed.builds[0])], findings

    eight = ["q_bits8_group_size16", "q_bits8_group_size32"]
    assert built(*eight) == (eight, [])
    assert built("q", exclude=[{"recipe": name} for name in eight]) == (
        ["q_bits4_group_size16", "q_bits4_group_size32"],
        [],
    )
    assert built("p", "q", exclude=[{"recipe": "q"}]) == (["p"], [])
    assert "listed twice" in built("q", eight[0])[1][0].problem
    assert "matches no build" in built("p", exclude=[{"recipe": "q"}])[1][0].problem
    (finding,) = built("p", "q_bits8_group_size61")[1]
    assert finding.fix == "did you mean q_bits8_group_size16?"


@pytest.mark.parametrize(
    ("recipes", "path", "value", "words"),
    [
        ({"q": steps({"codebook": {"bits": [3, 9], "group_size": [8, 16]}})},
         "recipes.q.steps[0].codebook.bits[1]", 9, "no such value"),
        ({"q": steps({"affine": {"bits": [4, 3]}})}, "recipes.q.steps[0].affine.bits[1]", 3,
         "Core ML has no linear quantization with 3 bits"),
        ({"q": steps({"affine": {"granularity": {"group_size": [8, "16"]}}})},
         "recipes.q.steps[0].affine.granularity.group_size[1]", "16", "expected an integer"),
        ({"q": steps({"affine": {"bits": []}})}, "recipes.q.steps[0].affine.bits", [],
         "the sweep has no value"),
        ({"q": steps({"affine": {"bits": [4, 8, 4]}})}, "recipes.q.steps[0].affine.bits[2]", 4,
         "twice"),
        ({"q": steps({"affine": {"bits": [4], "weight_dtype": "int4"}})},
         "recipes.q.steps[0].affine.bits[0]", 4, "short for `weight_dtype`"),
        ({"q": steps({"affine": {"group_size": [*range(1, LARGEST + 2)]}})}, "recipes.q", None,
         f"{LARGEST + 1} recipes"),
        ({"q": steps({"affine": {"group_size": [8] * 200_000}})}, "recipes.q", None, "200000 rec"),
        ({"q": {"scheme": "pt2e", "global_config": {"weight_per_channel": [True, "true"]}}},
         "recipes.q", None, "two recipes of the sweep have one name"),
        ({"q" * 95: steps({"affine": {"bits": [4, 8]}})}, f"recipes.{'q' * 95}", None, "101 char"),
        ({"a/b": steps({"affine": {"bits": [4, 8]}})}, 'recipes."a/b"', "a/b", "not a valid one"),
        ({"q": steps({"affine": {"bits": [4, 8]}}), "q_bits8": {"scheme": "none"}}, "recipes.q",
         None, "called q_bits8, as is an entry of its own"),
        ({"q": steps({"affine": {"bits": [4], "group_size": [8]}}),
          "q_bits4": steps({"affine": {"group_size": [8]}})}, "recipes.q_bits4", None,
         "called q_bits4_group_size8, as is a recipe of the sweep q"),
        ({"q": steps({"affine": {"bits": [4, 8]}}), "Q_bits8": {"scheme": "none"}},
         "recipes.Q_bits8", "Q_bits8", "differs from q_bits8 only in case"),
        # Gates do not make another artifact, and a block is a list by nature.
        ({"q": {"scheme": "none", "gates": {"bytes": {"max": [1, 2]}}}},
         "recipes.q.gates.bytes.max", [1, 2], "expected a number"),
        ({"q": steps({"codebook": {"bits": 3, "block_size": [[16, 32], -1]}})},
         "recipes.q.steps[0].codebook.block_size[0]", [16, 32], "expected an integer"),
        # What only some combinations do is said once, with their names.
        ({"q": {"scheme": "pt2e", "global_config": {"weight_dtype": ["float32", "qint8"],
                                                    "weight_per_channel": [True, False]}}},
         "recipes.q", None, "float32 weights (in q_float32_weight_per_channel_true, q_float32"),
        ({"q": steps({"affine": {"mapping_type": ["symmetric", "asymmetric"],
                                 "intx_choose_qparams_algorithm": ["hqq_scale_only"]}})},
         "recipes.q.steps[0].affine.mapping_type[1]", "asymmetric", "has no zero points"),
    ],
)  # fmt: skip
def test_a_wrong_sweep_is_one_finding_where_it_is_written(checked, recipes, path, value, words):
    (finding,) = checked(recipes)[1]
    assert str(finding).split("\n")[0].split(" = ")[0] == path
    assert words in finding.problem
    if value is not None:
        assert finding.value == value


def test_a_finding_has_the_line_of_the_value(tmp_path):
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, BASE.replace("[3, 4]", "\n            - 3\n            - 12"))
    assert "0.yaml:10: recipes.lut.steps[0].codebook.bits[1] = 12" in str(caught.value)
    modules = [{"name": "fc", "type": "torch.nn.Linear", "types": [], "weight": [48, 24]}]
    found = config(tmp_path, BASE)
    with pytest.raises(ConfigError) as caught:
        found.check_structure({"net": modules})
    text = str(caught.value)
    assert "0.yaml:9: recipes.lut.steps[0].codebook.group_size[1]" in text
    assert text.count("problem:") == 1
    assert "32 does not divide the 48 rows" in text


def test_a_target_that_is_too_old_names_the_recipe(checked):
    parsed, findings = checked({"q": steps({"affine": {"bits": [4, 8]}})})
    assert not findings
    recipes = parsed.document.recipes
    assert [recipes[n].oldest_version()[0] for n in ("q_bits4", "q_bits8")] == [9, 7]


def test_steps_that_share_a_yaml_alias_are_swept_one_by_one(checked):
    shared = {"affine": {"bits": [4, 8]}}
    parsed, findings = checked({"q": steps(shared, shared)})
    assert not findings
    assert len(parsed.document.recipes) == 4


def test_the_schema_accepts_a_list_exactly_where_one_is_expanded():
    definitions = schema()["$defs"]
    seen = set()
    for name, kind in classes().items():
        for key, definition in definitions[name]["properties"].items():
            swept = [path for path, _ in lists({key: [1, 2]}, kind)] == [(key,)]
            items = [each.get("uniqueItems") for each in definition.get("anyOf", ())]
            assert swept == (True in items), f"{name}.{key}"
            seen.add(swept)
    assert seen == {True, False}
    assert "Gate" not in classes()


def test_short_forms_are_torchaos_options(checked):
    parsed, _ = checked({"q": steps({"affine": {"bits": 4, "group_size": 32}})})
    long = {"weight_dtype": "int4", "granularity": {"group_size": 32}}
    other, _ = checked({"q": steps({"affine": long})})
    assert parsed.document.recipes["q"].slice() == other.document.recipes["q"].slice()
    module = {"name": "fc", "type": "torch.nn.Linear", "types": [], "weight": [8, 24]}
    found = scheme.findings("q", parsed.document.recipes["q"].slice(), "net", [module])
    written = parsed.document.recipes["q"].structure_findings("q", "net", [module])
    assert [each.path[-2:] for each in found] == [("granularity", "group_size")]
    assert [each.path[-2:] for each in written] == [("affine", "group_size")]
