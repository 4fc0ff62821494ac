"""Protects the constant methods of an artifact, which ExecuTorch's runners ask."""

import json
import re

import pytest
import torch
from executorch.runtime import Runtime
from pte_foundry.cli.main import main
from pte_foundry.errors import ModelError
from pte_foundry.formats.canonical_pte import canonical_pte
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower_described
from pte_foundry.models.constants import chosen, constants_of
from pte_foundry.models.module import ModelModule
from pte_foundry.pte import Pte

from tests.unit.lowering.test_lowering import TARGET

VALUES = {
    "get_max_seq_len": 8,
    "use_kv_cache": True,
    "temperature": 0.5,
    "family": "llama",
    "get_eos_ids": [2, 5],
}
MODULE = """
import torch
def build():
    return torch.nn.Linear(2, 2).eval()
def example_inputs():
    return (torch.ones(1, 2),)
def constants({parameters}):
    return {returned}
"""


@pytest.fixture(scope="module")
def artifact():
    program = torch.export.export(torch.nn.Linear(2, 2).eval(), (torch.ones(1, 2),))
    edges = edge_program.make_all({"forward": program}, [])
    return canonical_pte(lower_described(edges, TARGET, VALUES)[0], "all")


@pytest.fixture
def load(tmp_path):
    def load(returned, parameters=""):
        path = tmp_path / "model.py"
        path.write_text(MODULE.format(returned=returned, parameters=parameters))
        return ModelModule.load(path, None, {}, {}, seed=0)

    return load


def test_executorch_returns_them(artifact):
    program = Runtime.get().load_program(artifact)
    assert program.method_names == {"forward", *VALUES}
    found = {name: program.load_method(name).execute([]) for name in VALUES}
    assert found.pop("get_eos_ids") == [2, 5]
    assert found == {name: [VALUES[name]] for name in found}


def test_they_are_told_apart_from_methods(artifact, tmp_path, capsys):
    pte = Pte.load(artifact)
    assert pte.constants == VALUES
    assert pte.run((), "get_eos_ids") == (2, 5)
    assert describe(artifact).methods == ("forward",)
    path = tmp_path / "a.pte"
    path.write_bytes(artifact)
    assert main(["inspect", str(path)]) == 0
    assert re.search(r"get_eos_ids +\[2, 5\]", capsys.readouterr().out)
    assert main(["inspect", "--json", str(path)]) == 0
    assert json.loads(capsys.readouterr().out)["constants"] == VALUES


def test_a_target_has_those_of_its_shapes(load):
    found = constants_of(load('{"most": {"range": 8}.get(shapes, 4)}', "shapes"))
    assert found == {"range": {"most": 8}, "enumerated": {"most": 4}, "fixed": {"most": 4}}
    assert chosen(found, None, enumerated=False) == {"most": 8}
    assert chosen(found, None, enumerated=True) == {"most": 4}
    assert chosen(found, "fixed", enumerated=True) == {"most": 4}
    assert constants_of(load("{}")) == {}


@pytest.mark.parametrize(
    ("returned", "says"),
    [
        ("[1]", "returned list; return a dict"),
        ('{"a b": 1}', "has the name 'a b'; use letters"),
        ('{"forward": 1}', "'forward', which is a method of the model"),
        ('{"a": None}', "has a: None; allowed: int, float, bool, str, and lists"),
        ('{"a": []}', r"has a: \[\]; allowed"),
        ('{"a": [1, 2.0]}', "has a: .*; allowed"),
        ('{"a": ["x"]}', "has a: .*; allowed"),
        ('{"a": torch.ones(1)}', "has a: .*; allowed"),
    ],
)
def test_what_cannot_be_a_method_is_refused(load, returned, says):
    with pytest.raises(ModelError, match=rf"model\.py.* constants\(\).*{says}"):
        constants_of(load(returned))
