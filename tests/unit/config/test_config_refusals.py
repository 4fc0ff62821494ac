"""Every configuration that must be refused before any work is, with file, key, value and fix.

Each row of the table is a sound configuration with one mistake in it. The finding must be at the
mistake's key, alone, and must contain what matters.
"""

import copy
import re
from datetime import date
from typing import Literal

import pytest
from pte_foundry.config.base import Name, Strict, by_key
from pte_foundry.config.config import Config, check
from pte_foundry.config.layers import layered
from pte_foundry.config.translate import findings_of
from pte_foundry.errors import ConfigError
from pydantic import Field, ValidationError

MODULE = """
def build(weights, width=8): ...
def example_inputs(): ...
def calibration(data): return data["samples"]
def evaluation(data, count=3): ...
"""
SOURCE = {"file": "samples.bin", "sha256": "0" * 64}
SOUND = {
    "models": {
        "net": {
            "module": "net.py",
            "weights": dict(SOURCE),
            "data": {"samples": dict(SOURCE)},
            "options": {"width": 4},
        }
    },
    "recipes": {
        "plain": {"scheme": "none"},
        "static": {"scheme": "pt2e", "global_config": {}},
        "rows": {"scheme": "quantize", "steps": [{"affine": {}}]},
    },
    "targets": {"ios17": {"minimum_os": "iOS17"}, "ios18": {"minimum_os": "iOS18"}},
    "builds": [{"models": "*", "recipes": "*", "targets": "*"}],
}


@pytest.fixture
def project(tmp_path):
    (tmp_path / "net.py").write_text(MODULE)
    (tmp_path / "samples.bin").write_bytes(b"")
    return tmp_path


def with_change(path: str, value):
    """Return the sound configuration with one value set (or removed, with ``...``)."""
    data = copy.deepcopy(SOUND)
    *parents, last = path.split("/")
    node = data
    for key in parents:
        node = node[int(key)] if isinstance(node, list) else node.setdefault(key, {})
    if isinstance(node, list):
        node.append(value)
    elif value is ...:
        del node[last]
    else:
        node[last] = value
    return data


def found(data, root, platform="linux"):
    return [str(finding) for finding in check(layered(data, [], root), platform)[1]]


def codebook(**fields):
    return {"scheme": "quantize", "steps": [{"codebook": fields}]}


def affine(**fields):
    return {"scheme": "quantize", "steps": [{"affine": fields}]}


PT2E = "recipes/static/global_config/"
STATES = "targets/ios17/partitioner/take_over_mutable_buffer"
FULL = {"lower_full_graph": True}
REFUSED = {
    "unknown section": ("modles", {}, "modles", "did you mean models?"),
    "unknown key": ("models/net/wieghts", 1, "models.net.wieghts", "did you mean weights?"),
    "unknown deep key": (PT2E + "weight_type", 1, "global_config.weight_type", "weight_dtype"),
    "missing key": ("models/net/module", ..., "models.net.module", "required key is missing"),
    "no mapping": ("recipes/plain", 3, "recipes.plain = 3", "expected a mapping"),
    "quoted number": (PT2E + "weight_per_channel", "yes", "weight_per_channel", "true, false"),
    "section is null": ("gates", None, "gates = null", "expected a mapping"),
    "dot name": ("recipes/..", {"scheme": "none"}, 'recipes.".."', "file name"),
    "space in name": ("recipes/a b", {"scheme": "none"}, 'recipes."a b"', "a_b"),
    "long name": ("recipes/" + "a" * 101, {"scheme": "none"}, "recipes.a", "at most 100"),
    "same in another case": ("recipes/PLAIN", {"scheme": "none"}, "recipes.PLAIN", "only in case"),
    "bad digest": ("models/net/weights/sha256", "A" * 64, "weights.sha256", "lower-case"),
    "ftp": (
        "models/net/weights",
        {"url": "ftp://h/x", "sha256": "0" * 64},
        'weights.url = "ftp://h/x"',
        "http",
    ),
    "no such file": ("models/net/weights/file", "nope", 'weights.file = "nope"', "no such file"),
    "no such package": (
        "models/net/weights",
        {"package": "pydantik", "file": "x", "sha256": "0" * 64},
        "models.net.weights.file",
        "did you mean pydantic?",
    ),
    "no such file in a package": (
        "models/net/weights",
        {"package": "pydantic", "file": "pydantic/mian.py", "sha256": "0" * 64},
        "models.net.weights.file",
        "did you mean pydantic/main.py?",
    ),
    "escaping a package": (
        "models/net/weights",
        {"package": "pydantic", "file": "../x", "sha256": "0" * 64},
        'weights.file = "../x"',
        "leaves the package",
    ),
    "weights as an address": (
        "models/net/weights",
        "https://h/w",
        "net.weights",
        "write .url: https",
    ),
    "weights as a path": (
        "models/net/weights",
        "w.bin",
        "net.weights",
        "write .file: w.bin, sha256",
    ),
    "weights of a hub": (
        "models/net/weights",
        "hf://a/b",
        "net.weights",
        "the file's https address",
    ),
    "data as a path": ("models/net/data/d", "w.bin", "net.data.d", "{file: w.bin, sha"),
    "no weights": ("models/net/weights", ..., "net.weights", "a web address.*`train: true`"),
    "no digest": ("models/net/weights/sha256", ..., "weights.sha256", "`sha256sum samples.bin`"),
    "no digest of an address": (
        "models/net/weights",
        {"url": "https://h/w.pth"},
        "weights.sha256",
        r"`curl -sL https://h/w.pth \| sha256sum`",
    ),
    "space in the name of data": ("models/net/data/a b", SOURCE, 'data."a b"', "file name"),
    "data named ..": ("models/net/data/..", SOURCE, 'data.".."', "file name"),
    "data from training": ("models/net/data/d", {"train": True}, "data.d", "file, url, package"),
    "no train()": ("models/net/weights", {"train": True}, "models.net.module", "`train`"),
    "no module": ("models/net/module", "nett.py", "models.net.module", "did you mean net.py?"),
    "missing data": ("models/net/data/samples", ..., "models.net.data.samples", "does not define"),
    "unknown option": ("models/net/options/widht", 1, "options.widht", "did you mean width?"),
    "nan option": ("models/net/options/width", float("nan"), "options.width", "nan"),
    "unknown scheme": ("recipes/plain/scheme", "pt2", "plain.scheme", "did you mean pt2e?"),
    "no scheme": ("recipes/plain/scheme", ..., "plain.scheme", "required key is missing"),
    "dynamic flag": (PT2E + "dynamic", True, "global_config.dynamic", "no dynamic quantization"),
    "dynamic scheme": (
        "recipes/plain/scheme",
        "int8_dynamic_activation_int4_weight",
        "recipes.plain.scheme",
        "no dynamic quantization",
    ),
    "dynamic dtype": (
        PT2E + "activation_dtype",
        "int8_dynamic",
        "global_config.activation_dtype",
        "no dynamic quantization",
    ),
    "4-bit pt2e": (PT2E + "weight_dtype", "qint4", "weight_dtype", "only 8-bit"),
    "ema observer": (PT2E + "weight_observer", "ema_min_max", "weight_observer", "moving_average"),
    "no samples": (
        "recipes/static/calibration_samples",
        0,
        "calibration_samples = 0",
        "at least 1",
    ),
    "milestones": (PT2E + "milestones", [1, 2], "milestones", "at least 4"),
    "nothing quantized": ("recipes/static/global_config", None, "recipes.static", "nothing"),
    "float weights": (PT2E + "weight_dtype", "float32", "recipes.static", "quantizes nothing"),
    "two schemes in one": (
        "recipes/static/module_name_configs",
        {"a": {"quantization_scheme": "affine"}},
        "recipes.static",
        "disagree on quantization_scheme",
    ),
    "short type": (
        "recipes/static/module_type_configs",
        {"Linear": None},
        "module_type_configs.Linear",
        "did you mean torch.nn.Linear?",
    ),
    "pattern as a name": (
        "recipes/static/module_name_configs",
        {"a.*": None},
        "module_name_configs",
        "not patterns",
    ),
    "3-bit affine": ("recipes/rows", affine(weight_dtype="int3"), "weight_dtype", "3 bits"),
    "column scales": ("recipes/rows", affine(granularity={"axis": 1}), "granularity.axis", "0"),
    "empty group": ("recipes/rows", affine(granularity={"group_size": 0}), "group_size", "least 1"),
    "bfloat16": ("recipes/rows", affine(scale_dtype="bfloat16"), "scale_dtype", "no bfloat16"),
    "hqq with zero points": (
        "recipes/rows",
        affine(mapping_type="asymmetric", intx_choose_qparams_algorithm="hqq_scale_only"),
        "affine.mapping_type",
        "hqq_scale_only has no zero points",
    ),
    "no step": ("recipes/rows/steps", [], "recipes.rows.steps", "at least 1"),
    "empty step": ("recipes/rows/steps", [{}], "recipes.rows.steps[0]", "no config"),
    "two configs": (
        "recipes/rows/steps",
        [{"affine": {}, "codebook": {"dtype": "uint4", "block_size": [-1, -1]}}],
        "recipes.rows.steps[0]",
        "affine, codebook",
    ),
    "no gate": ("gates/sqnr_db", {}, "gates.sqnr_db", "no limit"),
    "impossible gate": ("gates/sqnr_db", {"min": 3, "max": 1}, "gates.sqnr_db", "min is greater"),
    "infinite gate": ("gates/x", {"min": float("inf")}, "gates.x.min", "finite"),
    "metric": ("builds/0/gates", {"a b": {"min": 1}}, 'gates."a b"', "not the name of a metric"),
    "unknown metric": ("gates/sqnr_dB2", {"min": 1}, "gates.sqnr_dB2", "did you mean sqnr_db?"),
    "unknown metric of a recipe": (
        "recipes/rows/gates",
        {"top2_agreement": {"min": 1}},
        "recipes.rows.gates.top2_agreement",
        "did you mean top1_agreement?",
    ),
    "unknown metric of builds": (
        "builds/0/gates",
        {"accuracy": {"min": 1, "optional": True}},
        "builds[0].gates.accuracy",
        "or return it from score",
    ),
    "divergence": ("divergence", "always", "divergence", "expected true or false"),
    "no device": ("devices", {}, "devices = {}", "no build would be validated"),
    "no recipe": ("recipes", {}, "recipes = {}", "define at least one entry under `recipes:`"),
    "no section": ("targets", ..., "targets", "required key is missing"),
    "data name": (
        "models/net/data/a b",
        SOURCE,
        'models.net.data."a b"',
        "rename it, e.g. to a_b",
    ),
    "data in another case": ("models/net/data/Samples", SOURCE, "data.Samples", "only in case"),
    "reserved data name": ("models/net/data/weights", SOURCE, "data.weights", "is reserved"),
    "date as an option": ("models/net/options/width", date(2024, 1, 1), "width", "not JSON"),
    "deep date": ("models/net/options/width", [date(2024, 1, 1)], "width[0]", "not JSON"),
    "device kind": ("devices", {"p": {"kind": "ssh"}}, "devices.p.kind", "no such kind"),
    "typo of a system": ("targets/ios18/minimum_os", "ios18", "minimum_os", "did you mean iOS18?"),
    "system below the runtime": ("targets/ios18/minimum_os", "iOS15", "minimum_os", "crashes"),
    "units": ("targets/ios18/compute_units", "ne", "compute_units", "cpu_and_ne"),
    "compiled away from a Mac": (
        "targets/ios18/model_type",
        "compiled_model",
        "targets.ios18.model_type",
        "only a Mac",
    ),
    "states below iOS18": (STATES, True, "take_over_mutable_buffer = true", "iOS18 / macOS15"),
    "full graph below iOS18": ("targets/ios17/partitioner", FULL, "ios17.minimum_os", "iOS18"),
    "full graph with a skip list": (
        "targets/ios18/partitioner",
        FULL | {"skip_ops_for_coreml_delegation": ["aten.mm.default"]},
        "skip_ops_for_coreml_delegation",
        "contradicts",
    ),
    "operator to skip without overload": (
        "targets/ios18/partitioner/skip_ops_for_coreml_delegation",
        ["aten.conv2d.default", "linear"],
        'skip_ops_for_coreml_delegation[1] = "linear"',
        "did you mean aten.linear.default?",
    ),
    "operator to skip in C++": (
        "targets/ios18/partitioner/skip_ops_for_coreml_delegation",
        ["aten::mul.Tensor"],
        "skip_ops_for_coreml_delegation[0]",
        "did you mean aten.mul.Tensor?",
    ),
    "operator to skip in Python": (
        "targets/ios18/partitioner/skip_ops_for_coreml_delegation",
        ["torch.ops.aten.relu.default"],
        "skip_ops_for_coreml_delegation[0]",
        "did you mean aten.relu.default?",
    ),
    "full graph without constants": (
        "targets/ios18/partitioner",
        FULL | {"take_over_constant_data": False},
        "take_over_constant_data = false",
        "contradicts",
    ),
    "full graph without states": (
        "targets/ios18/partitioner",
        FULL | {"take_over_mutable_buffer": False},
        "take_over_mutable_buffer = false",
        "contradicts",
    ),
    "shapes of the target": (
        "targets/ios18/enumerated_shapes",
        {"x": [[1], [2]]},
        "targets.ios18.enumerated_shapes",
        "belong to the model",
    ),
    "shapes of no model": (
        "targets/ios18/shapes",
        "enumerated",
        "targets.ios18.shapes",
        "net has no enumerated shapes",
    ),
    "4 bits after the conversion": (
        "targets/ios17/op_linear_quantizer_config",
        {"dtype": "int4"},
        "op_linear_quantizer_config.dtype",
        "iOS18",
    ),
    "blocks after the conversion": (
        "targets/ios17/op_linear_quantizer_config",
        {"granularity": "per_block"},
        "op_linear_quantizer_config.granularity",
        "iOS18",
    ),
    "pass name": ("targets/ios18/pass_pipeline", ["dce"], "pass_pipeline[0]", "::"),
    "nothing to build": ("builds", [], "builds = []", "nothing to build"),
    "empty list": ("builds/0/models", [], "builds[0].models", "at least one name"),
    "a name alone": ("builds/0/models", "net", "builds[0].models", r"write \[net\]"),
    "unknown model": ("builds/0/models", ["nett"], "builds[0].models[0]", "did you mean net?"),
    "unknown recipe": ("builds/0/recipes", ["plian"], "recipes[0]", "did you mean plain?"),
    "unknown target": ("builds/0/targets", ["ios81"], "targets[0]", "did you mean ios18?"),
    "unknown exclusion": (
        "builds/0/exclude",
        [{"target": "ios19"}],
        "builds[0].exclude[0].target",
        "did you mean ios1[78]",
    ),
    "exclusion of all": ("builds/0/exclude", [{}], "builds[0].exclude[0]", "matches every build"),
    "same build twice": ("builds/1", SOUND["builds"][0], "builds[1]", "is in builds.0. too"),
    "same build, other gates": (
        "builds/1",
        {
            "models": ["net"],
            "recipes": ["plain"],
            "targets": ["ios17"],
            "gates": {"cosine": {"min": 1}},
        },
        "builds[1]",
        "with other gates",
    ),
    "same name twice": ("builds/0/models", ["net", "net"], "builds[0]", "listed twice"),
    "int4 on iOS17": ("recipes/rows", affine(weight_dtype="int4"), "builds[0].targets", "4-bit"),
    "groups on iOS17": (
        "recipes/rows",
        affine(granularity={"group_size": 32}),
        'builds[0].targets = "ios17"',
        "raise targets.ios17.minimum_os to iOS18",
    ),
    "codebook on iOS17": (
        "recipes/rows",
        codebook(dtype="uint6", block_size=[-1, -1]),
        'builds[0].targets = "ios17"',
        "codebook",
    ),
    "pt2e on iOS16": ("targets/ios17/minimum_os", "iOS16", "builds[0].targets", "by PT2E"),
    "pt2e on macOS13": ("targets/ios17/minimum_os", "macOS13", "builds[0]", "to macOS14"),
    "block of nothing": (
        "recipes/rows",
        codebook(dtype="uint6", block_size=[0, -1]),
        "codebook.block_size",
        "not a block",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_key_and_fix(case, project):
    path, value, key, words = REFUSED[case]
    findings = found(with_change(path, value), project)
    assert any(key in text and re.search(words, text) for text in findings), "\n".join(findings)
    several = {"same build twice", "same name twice", "two configs"}  # more than one is right
    assert len(findings) == 1 or case in several, "\n".join(findings)


def test_the_sound_configuration_is_sound(project):
    assert found(SOUND, project) == []
    assert len(Config.parse(SOUND, [], project).builds) == 6


LOCAL_DATA = [
    'def words():\n    data = {"a": 1}\n    return data["words"]',
    'def words(data): return data["words"]',
    'def score(outputs, labels):\n    data = dict(labels)\n    return data["words"]',
    'def train(data):\n    data = dict(data)\n    return data["words"]',
    'def train(data):\n    with open("f") as data:\n        return data["words"]',
    'def train(data): return (lambda data: data["words"])({"words": 1})',
    'class Reader:\n    def evaluation(self, data): return data["words"]',
    'data = {"words": 1}\nWORDS = data["words"]',
]


@pytest.mark.parametrize("code", LOCAL_DATA)
def test_a_variable_called_data_is_no_data_file(code, project):
    """Only the parameter of the functions that the stages call has the files of the config."""
    (project / "net.py").write_text(f"{MODULE}\n{code}\n")
    assert found(SOUND, project) == []


def test_the_parameter_data_is_read_wherever_it_is_used_in_its_function(project):
    code = 'def train(*, data):\n    if data:\n        return [data["words"] for _ in "ab"]\n'
    (project / "net.py").write_text(f"{MODULE}\n{code}")
    assert any("models.net.data.words" in text for text in found(SOUND, project))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("recipes/static/module_name_configs", {"dynamic_head": {"activation_dtype": "float32"}}),
        ("recipes/static/module_name_configs", {"a.dynamic": None}),
        ("recipes/static/module_type_configs", {"my.DynamicConv": None}),
        ("recipes/static/gates", {"dynamic_range": {"min": 1}}),
        ("recipes/rows/steps/0/exclude", ["dynamic_head*"]),
        ("models/net/options/width", "dynamic"),
    ],
)
def test_a_name_with_dynamic_in_it_is_no_dynamic_quantization(path, value, project):
    assert not any(
        "no dynamic quantization" in text for text in found(with_change(path, value), project)
    )


def test_a_mac_may_compile(project):
    assert found(with_change("targets/ios18/model_type", "compiled_model"), project, "darwin") == []


def test_path_separators_in_names_are_refused(project):
    for name in ("../../etc", "/tmp", "a/b", "", "-rf", "a\nb", "é", "a\x00"):
        data = copy.deepcopy(SOUND)
        data["targets"][name] = {"minimum_os": "iOS18"}
        assert any("file name" in text for text in found(data, project)), name


def test_names_that_are_not_text(project):
    data = copy.deepcopy(SOUND)
    data["recipes"] |= {4: {"scheme": "none"}, True: {"scheme": "none"}, None: {"scheme": "none"}}
    assert sum("not a string" in text for text in found(data, project)) == 3


@pytest.mark.parametrize("data", [None, [], "text", 3, {}])
def test_not_a_configuration_at_all(data, project):
    assert found(data, project)


@pytest.mark.parametrize("junk", [None, [], "x", 3, True, {}, {"x": None}, [[]], float("nan")])
@pytest.mark.parametrize("section", [*SOUND, "gates", "devices", "models/net", "recipes/static"])
def test_junk_in_any_place_gives_findings_not_tracebacks(section, junk, project):
    findings = found(with_change(section, junk), project)
    allowed = section == "gates" and junk in ({}, {"x": None})
    assert bool(findings) != allowed


def test_all_errors_come_in_one_message(project):
    """Structural and semantic findings do not hide one another."""
    data = with_change("models/net/module", "gone.py")
    data["recipes"]["rows"]["steps"][0]["affine"] = {"weight_dtype": "int4"}
    data["recipes"]["static"]["bogus"] = 1
    data["targets"]["ios18"]["compute_units"] = "gpu"
    data["builds"][0]["exclude"] = [{"model": "nothing"}]
    with pytest.raises(ConfigError) as caught:
        Config.parse(data, [], project)
    message = str(caught.value)
    for words in ("gone.py", "4-bit weights", "bogus", '"gpu"', '"nothing"', "5 errors"):
        assert words in message


def test_a_wrong_entry_hides_nothing_about_the_others(project):
    """Cross-checks use the entries that are valid, and the names and indices of all."""
    data = with_change("models/net/options/widht", 1)
    data["models"]["other"] = {"module": 3}
    data["builds"].insert(0, {"models": ["other"], "recipes": [4], "targets": "*"})
    data["builds"][1]["exclude"] = [{"recipe": "plian"}, {"model": "other", "recipe": "plain"}]
    text = "\n".join(found(data, project))
    for key in ("models.other.module = 3", "models.other.weights", "builds[0].recipes"):
        assert key in text
    assert "models.net.options.widht" in text
    assert "builds[1].exclude[0].recipe" in text
    assert text.count("problem:") == 5


def test_an_entry_of_several_kinds_is_checked_as_its_own():
    """What adding a kind of device takes: a class, and an entry in the table."""

    class Here(Strict):
        kind: Literal["here"] = Field(description="On this machine.")

    class There(Strict):
        kind: Literal["there"] = Field(description="On another machine.")
        host: str

    class Whole(Strict):
        devices: dict[Name, by_key("kind", {"here": Here, "there": There})]

    devices = {"a": {"kind": "here"}, "b": {"kind": "there", "host": "h"}}
    whole = Whole.model_validate({"devices": devices})
    assert whole.devices == {"a": Here(kind="here"), "b": There(kind="there", host="h")}
    assert whole.model_dump() == {"devices": devices}
    wrong = {"c": {"kind": "ther"}, "d": {}, "e": 3, "f": {"kind": "there", "hots": "h"}}
    with pytest.raises(ValidationError) as caught:
        Whole.model_validate({"devices": devices | wrong})
    texts = [str(finding) for finding in findings_of(caught.value, Whole)]
    assert [text.splitlines()[0] for text in texts] == [
        'devices.c.kind = "ther"',
        "devices.d.kind",
        "devices.e = 3",
        "devices.f.host",
        'devices.f.hots = "h"',
    ]
    assert "did you mean there?" in texts[0]
    assert "here: On this machine; there: On another machine" in texts[1]
    assert "did you mean host?" in texts[4]


def test_keys_that_are_hard_to_write_down_are_findings(project):
    data = copy.deepcopy(SOUND)
    data["targets"]["\ud800"] = {"minimum_os": "\ud800"}
    data["models"]["net"][None] = data["recipes"]["rows"]["steps"][0][True] = 1
    data["builds"][0]["[key]"] = data["gates"] = {"[key]": 1}
    assert len(found(data, project)) >= 5


def test_modules_are_read_without_running_them(project):
    (project / "net.py").write_text("raise SystemExit('run')\ndef build(weights): ...\n")
    findings = found(SOUND, project)
    assert sum("defines no" in text for text in findings) == 1
    (project / "net.py").write_text("def build(:\n")
    assert any("line 1" in text for text in found(SOUND, project))
    (project / "net.py").write_bytes(b"a = '\x00'")
    assert any("not valid Python" in text for text in found(SOUND, project))


def test_imported_functions_count(project):
    (project / "net.py").write_text(
        "from other import build, example_inputs, calibration\nevaluation = print\n"
    )
    assert found(SOUND, project) == []


def test_methods_replace_example_inputs_and_take_options(project):
    text = MODULE.replace("def example_inputs(): ...", "def methods(length): ...")
    play = "def play(run, sample, steps): ...\n"
    (project / "net.py").write_text(text + play)
    assert found(with_change("models/net/options", {"length": 4, "steps": 2}), project) == []
    unknown = found(with_change("models/net/options", {"run": 1}), project)
    assert ["models.net.options.run" in text for text in unknown] == [True]


def test_samples_are_optional(project):
    module = MODULE.replace("def calibration", "def other").replace("def evaluation", "def more")
    (project / "net.py").write_text(module)
    assert found(SOUND, project) == []


@pytest.mark.parametrize(("seed", "words"), [(7, ""), (True, "integer"), (-1, "0"), ("7", "int")])
def test_random_weights_have_a_seed(seed, words, project):
    findings = found(with_change("models/net/weights", {"random": seed}), project)
    assert [text for text in findings if words not in text] == []
    assert bool(findings) == bool(words)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        ({"x": [[1, 2]]}, "single shape"),
        ({"x": [[1, 2], [3]]}, "ranks differ"),
        ({"x": [[1], [2]], "y": [[1], [2], [3]]}, "numbers differ"),
        ({"x": [[1], [1]]}, "listed twice"),
        ({}, "no input"),
        ({"x": [[0], [1]]}, "at least 1"),
    ],
)
def test_enumerated_shapes(shapes, words, project):
    data = with_change("models/net/enumerated_shapes", shapes)
    assert any(words in text for text in found(data, project))


TWO_INPUTS = {"x": [[1], [2]], "y": [[3], [3]]}


@pytest.mark.parametrize(
    "shapes", [TWO_INPUTS, {"prefill": TWO_INPUTS, "decode": {"z": [[1], [2]]}}]
)
def test_enumerated_shapes_of_several_inputs(shapes, project):
    data = with_change("models/net/enumerated_shapes", shapes)
    data["targets"] = {"ios18": {"minimum_os": "iOS18"}}
    data["builds"] = [{"models": ["net"], "recipes": "*", "targets": ["ios18"]}]
    assert found(data, project) == []
    data["targets"]["ios18"]["minimum_os"] = "iOS17"
    (text,) = [text for text in found(data, project) if "several inputs" in text]
    assert "raise minimum_os to iOS18, or write shapes: range" in text
    data["targets"]["ios18"]["shapes"] = "range"
    assert not any("several inputs" in text for text in found(data, project))


@pytest.mark.parametrize(
    "options",
    [
        {"skip_ops_for_coreml_delegation": ["aten.add.Tensor"]},
        {"take_over_constant_data": False},
        {"take_over_mutable_buffer": False},
    ],
)
@pytest.mark.parametrize("shapes", [None, "enumerated"])
def test_enumerated_shapes_need_the_whole_graph(options, shapes, project):
    data = with_change("models/net/enumerated_shapes", {"x": [[1], [2]]})
    data["targets"]["ios18"] |= {"partitioner": options, "shapes": shapes}
    (text,) = [text for text in found(data, project) if "all of the graph" in text]
    assert f"targets.ios18.partitioner.{next(iter(options))}" in text
    data["targets"]["ios18"]["shapes"] = "fixed"
    assert not any("all of the graph" in text for text in found(data, project))


COMPUTED = "import importlib\nhelper = importlib.import_module(f'{__name__}_helper')\n"


def test_imports_that_nothing_can_follow_are_refused_or_declared(project):
    (project / "net.py").write_text(MODULE + COMPUTED)
    line = MODULE.count("\n") + 2
    (text,) = found(SOUND, project)
    assert f"net.py:{line} imports a module by a name that it computes: `helper = imp" in text
    assert "`imports:`" in text
    assert found(with_change("models/net/imports", []), project) == []
    (text,) = found(with_change("models/net/imports", ["helpers"]), project)
    assert "models.net.imports" in text
    assert "no such module" in text
    (project / "helpers.py").write_text(COMPUTED)
    assert found(with_change("models/net/imports", ["helpers"]), project) == []


def test_imports_of_helpers_are_looked_at_as_well(project):
    (project / "net.py").write_text(f"import helpers\n{MODULE}")
    (project / "helpers.py").write_text(COMPUTED)
    (text,) = found(SOUND, project)
    assert "helpers.py:2 imports" in text
