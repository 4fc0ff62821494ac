"""Protects the gates of a config: none that nothing meets, and defaults that zeros do not pass."""

import ast
import copy
import textwrap

import pytest
from pte_foundry.config import gates
from pte_foundry.config.config import check, load
from pte_foundry.config.defaults import default_gates
from pte_foundry.config.layers import layered
from pte_foundry.config.recipes.none import NoneRecipe
from pte_foundry.config.targets import Target
from pte_foundry.config.task_metrics import task_metrics

from tests.project import ROOT
from tests.unit.config.test_config_refusals import MODULE, SOUND

CLASSIFIER = """
def score(outputs, labels):
    return {"top1": 0.5}
"""


@pytest.fixture
def project(tmp_path):
    """Two models: only ``sorter`` has task metrics."""
    (tmp_path / "net.py").write_text(MODULE)
    (tmp_path / "sorter.py").write_text(MODULE + CLASSIFIER)
    (tmp_path / "samples.bin").write_bytes(b"")
    return tmp_path


def findings(root, *, top=(), recipe=(), builds=None):
    data = copy.deepcopy(SOUND)
    data["models"]["sorter"] = data["models"]["net"] | {"module": "sorter.py"}
    data["gates"], data["recipes"]["plain"]["gates"] = dict(top), dict(recipe)
    data["builds"] = builds or data["builds"]
    return [str(finding) for finding in check(layered(data, [], root))[1]]


def entry(*models, recipes=("plain",), **given):
    return {"models": list(models), "recipes": list(recipes), "targets": ["ios18"], **given}


GATE = {"min": 0.9}


@pytest.mark.parametrize("metric", ["top1", "top1_change", "sqnr_db", "worst_sqnr_db", "hazards"])
def test_metrics_of_the_models_of_the_builds_are_known(metric, project):
    assert findings(project, builds=[entry("sorter", gates={metric: GATE})]) == []


def test_the_nearest_name_may_be_one_of_the_models_own(project):
    (text,) = findings(project, builds=[entry("sorter", gates={"top_1": GATE})])
    assert "builds[0].gates.top_1" in text
    assert "did you mean top1?" in text


def test_a_metric_of_another_model_is_refused(project):
    (text,) = findings(project, builds=[entry("net", gates={"top1": GATE}), entry("sorter")])
    assert "no validation of its builds measures this metric" in text


@pytest.mark.parametrize("place", ["top", "recipe"])
def test_a_metric_that_only_some_models_have(place, project):
    """It would fail the builds of the others, after they are built."""
    both = [entry("net", "sorter")]
    (text,) = findings(project, builds=both, **{place: {"top1": GATE}})
    assert "net does not measure this metric" in text
    assert "optional: true" in text
    assert findings(project, builds=both, **{place: {"top1": GATE | {"optional": True}}}) == []


def test_a_gate_that_every_build_replaces_or_removes_applies_to_none(project):
    own = [entry("net", gates={"top1": None}), entry("sorter")]
    assert findings(project, top={"top1": GATE}, builds=own) == []
    assert findings(project, top={"top1": None}, builds=own) == []


def test_a_gate_of_a_recipe_without_builds_is_checked_against_all_models(project):
    rows = [entry("net", recipes=["rows"])]
    assert findings(project, recipe={"top1": GATE | {"optional": True}}, builds=rows) == []
    assert len(findings(project, recipe={"topp1": GATE}, builds=rows)) == 1


@pytest.mark.parametrize(
    "source",
    [
        "from elsewhere import score",
        "from elsewhere import *",
        "import elsewhere as score",
        "score = lambda outputs, labels: {}",
        "score: object = make()",
        "def score(outputs, labels):\n    return {name: 1 for name in NAMES}",
        "def score(outputs, labels):\n    return {NAME: 1}",
        "def score(outputs, labels):\n    return {**other(), 'a': 1}",
        "def score(outputs, labels):\n    return dict(other(), a=1)",
        "def score(outputs, labels):\n    return evaluate(outputs)",
        "def score(outputs, labels):\n    if labels:\n        return {'a': 1}\n    return other()",
        "@cached\ndef score(outputs, labels):\n    return {'a': 1}",
        "if FAST:\n    def score(outputs, labels):\n        return {'a': 1}",
        "class score:\n    def __new__(cls): return {'a': 1}",
        "def score(outputs, labels):\n    raise NotImplementedError",
    ],
)
def test_what_the_source_does_not_show_is_accepted(source, project):
    assert task_metrics(ast.parse(source)) is None
    (project / "sorter.py").write_text(MODULE + source)
    assert findings(project, builds=[entry("sorter", gates={"anything": GATE})]) == []


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("def build(): ...", set()),
        ("def score(o, l):\n    return {'a': 1}", {"a", "a_change"}),
        ("def agreement(o, r):\n    return {'a': 1, 'b': 2}", {"a", "b"}),
        ("def score(o, l):\n    return dict(a=1)", {"a", "a_change"}),
        (
            """
            def score(o, l):
                def inner():
                    return {"no": 1}
                if l:
                    return {"a": 1}
                for x in o:
                    return {"b": inner()}
            def agreement(o, r):
                return {"c": 1}
            """,
            {"a", "a_change", "b", "b_change", "c"},
        ),
        ("def score(o, l):\n    return other()\ndef score(o, l):\n    return {}", set()),
    ],
)
def test_names_that_the_source_shows(source, names):
    assert task_metrics(ast.parse(textwrap.dedent(source))) == names


def test_the_models_of_the_project_show_their_metrics():
    found = {
        path.stem: task_metrics(ast.parse(path.read_text()))
        for path in (ROOT / "config/models").glob("*.py")
    }
    assert found["digits_cnn"] == {"top1", "top1_change"}
    assert found["smollm2"] == {"perplexity", "perplexity_change"}
    assert found["minilm"] == {"top1_agreement", "ranking_agreement"}
    assert None not in found.values()


def test_zeros_pass_no_default_gate():
    """An output of zeros has 0 dB; floors below that let it pass."""
    floors = [gates.STATIC_ACTIVATIONS_SQNR, *gates.UNCOMPRESSED_SQNR.values()]
    for table in (gates.AFFINE_SQNR, gates.PER_GROUP_SQNR, gates.PALETTIZED_SQNR):
        floors += table.values()
    assert min(floors) > 0


def test_every_build_of_the_project_has_a_gate_that_zeros_miss():
    """Two builds lower their SQNR below 0 dB on purpose; lost outputs are hazards even there."""
    files = [ROOT / "config/config.yaml", ROOT / "config/full.yaml"]
    for config in (load(files[:1], ROOT), load(files, ROOT)):
        for build in config.builds:
            assert build.gates["hazards"].max == 0
    negative = {(b.model, b.recipe) for b in config.builds if b.gates["sqnr_db"].min <= 0}
    assert negative == {("minilm", "lut1"), ("minilm", "lut2")}


def test_quality_of_random_weights_only_warns():
    """An untrained EfficientNet has logits of 1e-5, for which fp16 has few bits."""
    given = NoneRecipe(scheme="none"), Target(minimum_os="iOS18")
    made = default_gates(*given, untrained=True)
    warning = {metric for metric, gate in made.items() if gate.on_fail == "warn"}
    assert warning == {"sqnr_db", "equal_fraction"}, "a broken program fails nonetheless"
    assert made["sqnr_db"].min == default_gates(*given)["sqnr_db"].min
    assert not any(gate.on_fail == "warn" for gate in default_gates(*given).values())


def test_default_gates_of_integers_follow_the_precision():
    def equal(recipe, precision):
        target = Target(minimum_os="iOS18", compute_precision=precision)
        gate = default_gates(recipe, target)["equal_fraction"]
        assert gate.optional, "most models have no integer outputs"
        return gate.min

    plain = NoneRecipe(scheme="none")
    assert equal(plain, "float32") > equal(plain, "float16") > gates.COMPRESSED_EQUAL_FRACTION
