"""Recipes against a model's modules: groups, blocks and filters that do not fit are refused."""

import pytest
from pte_foundry.config.config import Config
from pte_foundry.config.recipes import Recipe
from pte_foundry.errors import ConfigError
from pte_foundry.quantize import schemes
from pte_foundry.quantize.selection import assigned, described, left_out, selected
from pydantic import TypeAdapter


def module(name, kind, weight):
    public = f"torch.nn.{kind.rpartition('.')[2]}"
    return {"name": name, "type": kind, "types": [public, kind], "weight": weight}


LINEAR = "torch.nn.modules.linear.Linear"
MODULES = [
    {"name": "", "type": "net.Net", "types": ["net.Net"], "weight": None},
    module("words", "torch.nn.modules.sparse.Embedding", [96, 64]),
    module("features.0", "torch.nn.modules.conv.Conv2d", [8, 3, 3, 3]),
    module("features.1", "torch.nn.modules.activation.ReLU", None),
    module("layer.0", LINEAR, [64, 48]),
    module("layer.1", LINEAR, [50, 64]),
    module("attention.out", "torch.nn.modules.linear.NonDynamicallyQuantizableLinear", [8, 7]),
]
MODULES[-1]["types"].append("torch.nn.Linear")


def step(scheme="affine", types=("torch.nn.Linear",), names=("*",), exclude=(), **config):
    defaults = {"granularity": {"axis": 0}} if scheme == "affine" else {}
    filters = {"types": list(types), "names": list(names), "exclude": list(exclude)}
    return {"scheme": scheme} | filters | defaults | config


def structure_findings(name, recipe, model, modules):
    """What is found for a recipe that is built with one model."""
    scheme = schemes.load(recipe["scheme"])
    own = scheme.findings(name, recipe, model, modules)
    return own + scheme.unmatched(name, recipe, {model: modules})


def errors(*steps):
    recipe = {"scheme": "quantize", "steps": list(steps)}
    return "\n".join(map(str, structure_findings("r", recipe, "net", MODULES)))


def test_what_fits_is_fine():
    assert errors(step()) == ""
    assert errors(step("codebook", block_size=[-1, -1])) == ""
    assert errors(step("codebook", block_size=[2, -1])) == ""
    assert errors(step("codebook", block_size=[-1, 16])) == ""
    assert errors(step(types=["torch.nn.Embedding"]), step(granularity={"group_size": 16})) == ""
    assert structure_findings("r", {"scheme": "none"}, "net", MODULES) == []


def test_selection_by_type_name_and_exclusion():
    def names(**filters):
        return [found["name"] for found in selected(step(**filters), MODULES)]

    assert names() == ["layer.0", "layer.1"]
    assert names(types=[LINEAR]) == ["layer.0", "layer.1"]
    assert names(names=["layer.?"], exclude=["*.1"]) == ["layer.0"]
    assert names(names=["LAYER.*"]) == []
    internal = "torch.nn.modules.linear.NonDynamicallyQuantizableLinear"
    assert names(types=[internal]) == ["attention.out"]


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (step(names=["layer.0"], granularity={"group_size": 32}), ["layer.0 [64, 48]", "size 24"]),
        (step(granularity={"group_size": 128}), ["group_size", "layer.0 [64, 48]", "layer.1"]),
        (step(granularity={"group_size": 1}), ["a scale for each value saves nothing"]),
        # A module that is named, not matched by a pattern, is wanted.
        (
            step("codebook", names=["layer.1", "*.0"], block_size=[16, -1]),
            ["block_size", "layer.1 [50, 64]", "50 rows", "exclude the module"],
        ),
        (step("codebook", exclude=["layer.1"], block_size=[-1, 32]), ["layer.0 [64, 48]"]),
        (step("codebook", block_size=[2, 8]), ["both rows and columns", "layer.0", "layer.1"]),
        (step("codebook", block_size=[128, -1]), ["128 does not divide the 64 rows"]),
        (step(types=["torch.nn.LSTM"]), ["matches no module of net", "Conv2d"]),
        (step(names=["layer.0", "leyer.1"]), ["leyer.1", "did you mean layer.1?"]),
        (step(exclude=["head.*"]), ["modules.exclude[0]", "no module of net"]),
        (step(exclude=["layer.*"]), ["matches no module of net"]),
        (step(types=["torch.nn.Conv2d"]), ["features.0 [8, 3, 3, 3]", "not 2-D"]),
        (step(types=["torch.nn.ReLU"]), ["features.1", "has no weight"]),
    ],
)
def test_what_does_not_fit_is_named_with_its_shape(wrong, words):
    message = errors(wrong)
    assert "recipes.r.steps[0]" in message
    for word in words:
        assert word in message


def test_what_does_not_fit_is_left_to_later_steps_or_in_float():
    """A general recipe must not be refused for the ten rows of one classifier."""
    groups = step(granularity={"group_size": 32})
    assert errors(groups) == ""
    assert left_out(groups, MODULES) == {"layer.0": "32 does not divide the 48 columns"}
    assert errors(groups, step(names=["layer.0"])) == ""
    taken = [[m["name"] for m in each] for each in assigned([groups, step()], MODULES)]
    assert taken == [["layer.1"], ["layer.0"]]
    many = {f"layers.{n}": "no" for n in range(9)} | {"head": "its weight is read by aten.t"}
    assert described(many)[1] == "'head': its weight is read by aten.t"
    assert described(many)[0].endswith("'layers.4' and 4 more: no")


def test_a_weight_of_one_column_has_no_scale_per_row():
    """torchao fails on it, and nothing would be saved."""
    assert "layer.2" in left_out(step(), [module("layer.2", LINEAR, [50, 1])])


def test_a_recipe_that_does_nothing_is_one_finding_with_the_fix():
    embeddings = step(types=["torch.nn.Embedding"], optional=True)
    convolutions = [MODULES[0], MODULES[2]]
    for steps in ([embeddings], [embeddings, step(optional=True)], [embeddings, step()]):
        (finding,) = schemes.load("quantize").findings("r", {"steps": steps}, "net", convolutions)
        assert "for convolutions there are the default config's recipe int8_" in finding.fix


def test_the_first_step_that_chooses_a_module_has_it():
    """Later steps leave it alone, so its shape does not concern them."""
    assert errors(step(names=["layer.0"]), step(granularity={"group_size": 32})) == ""
    assert "earlier steps" in errors(step(), step(names=["layer.0"]))


def test_an_optional_step_may_match_nothing_if_another_matches():
    """So that a recipe with a step for embeddings also fits models without any."""
    lstm = step(types=["torch.nn.LSTM"], optional=True)
    assert errors(lstm, step()) == ""
    assert errors(step(), step(names=["layer.0"], optional=True)) == ""
    assert "no step of the recipe compresses anything in net" in errors(lstm)
    assert "matches no module of net" in errors(step(types=["torch.nn.LSTM"]), step(optional=True))


def test_a_module_that_reads_its_weight_itself_is_not_selected():
    """Its class is derived from Linear, but torchao's weights cannot be indexed."""
    obstacle = "its weight is read by aten.index.Tensor"
    odd = module("table", LINEAR, [64, 48]) | {"obstacle": obstacle}
    assert selected(step(), [odd, MODULES[4] | {"obstacle": None}]) == [
        MODULES[4] | {"obstacle": None}
    ]
    recipe = {"scheme": "quantize", "steps": [step()]}
    (finding,) = structure_findings("r", recipe, "net", [odd])
    assert f"compresses nothing in net: 'table': {obstacle}" in finding.problem


PT2E = {"scheme": "pt2e", "module_name_configs": {}, "module_type_configs": {}}


@pytest.mark.parametrize(
    ("recipe", "place"),
    [
        ({"scheme": "quantize", "steps": [step(exclude=["lm_head"])]}, "steps[0].modules.exclude"),
        (
            {"scheme": "quantize", "steps": [step(names=["layer.*", "lm_head"])]},
            "steps[0].modules.names[1]",
        ),
        (PT2E | {"module_name_configs": {"lm_head": None}}, "module_name_configs.lm_head"),
        (
            PT2E | {"module_type_configs": {"torch.nn.Bilinear": None}},
            'module_type_configs."torch.nn.Bilinear"',
        ),
    ],
)
def test_one_model_with_the_name_is_enough(recipe, place):
    """Recipes are shared by models with other module names; only what none has is a typo."""
    scheme = schemes.load(recipe["scheme"])
    (finding,) = scheme.unmatched("r", recipe, {"a": MODULES, "b": MODULES})
    assert place in str(finding)
    assert "a, b" in finding.problem
    other = [*MODULES, module("lm_head", "torch.nn.modules.linear.Bilinear", [8, 8])]
    assert scheme.unmatched("r", recipe, {"a": MODULES, "b": other}) == []


def test_optional_settings_may_match_nothing():
    """So that a recipe that spares one layer also fits models without it."""
    settings = {"scheme": "pt2e", "module_name_configs": {"lm_head": None}}
    strict, lenient = (
        TypeAdapter(Recipe).validate_python(settings | {"optional": optional})
        for optional in (False, True)
    )
    assert len(list(strict.unmatched_findings("r", {"net": MODULES}))) == 1
    assert list(lenient.unmatched_findings("r", {"net": MODULES})) == []
    assert lenient.slice() == strict.slice() | {"shared": True}


def test_many_modules_make_one_finding():
    many = [module(f"l.{n}", LINEAR, [8, 9]) for n in range(20)]
    recipe = {"scheme": "quantize", "steps": [step(granularity={"group_size": 2})]}
    (finding,) = structure_findings("r", recipe, "net", many)
    assert "and 15 more" in finding.problem


def test_a_recipe_is_checked_by_its_scheme():
    step = {"affine": {"granularity": {"group_size": 32}}, "modules": {"names": ["layer.0"]}}
    recipe = TypeAdapter(Recipe).validate_python({"scheme": "quantize", "steps": [step]})
    (finding,) = recipe.structure_findings("r", "net", MODULES)
    assert finding.path == ("recipes", "r", "steps", 0, "affine", "granularity", "group_size")
    plain = TypeAdapter(Recipe).validate_python({"scheme": "none"})
    assert list(plain.structure_findings("r", "net", MODULES)) == []


def test_names_and_types_of_pt2e_recipes():
    recipe = {
        "scheme": "pt2e",
        "module_name_configs": {"layer.0": None, "layers.1": None},
        "module_type_configs": {
            "torch.nn.Linear": None,
            "torch.nn.LSTM": None,
            "torch.nn.functional.relu": None,
            "operator.add": None,
        },
    }
    found = [str(finding) for finding in structure_findings("r", recipe, "net", MODULES)]
    assert len(found) == 2
    assert 'module_name_configs."layers.1"' in found[0]
    assert "did you mean layer.1?" in found[0]
    assert 'module_type_configs."torch.nn.LSTM"' in found[1]


def test_enumerated_shapes_are_checked_against_the_inputs_that_are_known(tmp_path):
    (tmp_path / "net.py").write_text(
        "def build(): ...\ndef example_inputs(): ...\ndef evaluation(): ...\n"
    )
    (tmp_path / "w.bin").touch()
    data = {
        "models": {
            "net": {
                "module": "net.py",
                "weights": {"file": "w.bin", "sha256": "0" * 64},
                "enumerated_shapes": {"input_ids": [[1, 1], [1, 16]]},
            }
        },
        "recipes": {"plain": {"scheme": "none"}},
        "targets": {"sizes": {"minimum_os": "iOS18"}},
        "builds": [{"models": "*", "recipes": "*", "targets": "*"}],
    }
    config = Config.parse(data, [], tmp_path)
    config.check_inputs({})
    row = {"name": "input_ids", "dtype": "int32", "shape": [1, [1, None]]}
    config.check_inputs({"net": [row]})
    with pytest.raises(ConfigError) as caught:
        config.check_inputs({"net": [row | {"name": "ids"}]})
    assert "models.net.enumerated_shapes.input_ids" in str(caught.value)
    assert "net has no such input" in str(caught.value)
    config.check_inputs({"net": [row | {"dtype": "int64"}]})
    with pytest.raises(ConfigError, match="input of net is bool") as caught:
        config.check_inputs({"net": [row | {"dtype": "bool"}]})
    assert "give int32, and compare in forward()" in str(caught.value)
    with pytest.raises(ConfigError, match="net has several methods") as caught:
        config.check_inputs({"net": [row | {"method": name} for name in ("prefill", "decode")]})
    assert "name the method above the inputs: decode: {INPUT" in str(caught.value)
