"""Protects that a change of anything that a model imports is seen, without running any of it."""

import importlib.util
import json
import os
import sys
from pathlib import Path
from types import ModuleType

import pytest
from pte_foundry import installed
from pte_foundry.errors import ModelError
from pte_foundry.files import read_json
from pte_foundry.job.arguments import check_imports
from pte_foundry.models import imports, source_loader
from pte_foundry.models.imports import follow, path_from, project_of
from pte_foundry.models.module import ModelModule
from pte_foundry.steps import model as describe

FUNCTIONS = """
def build(): ...
def example_inputs(): ...
def evaluation(): ...
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The search path of steps: Python's own, a folder on PYTHONPATH, and one with packages."""
    folders = (str(tmp_path / "on_path"), *sys.path, str(tmp_path / "site-packages"))
    monkeypatch.setattr(imports, "search_path", lambda: folders)
    return folders


def followed(root: Path, text: str, declared: list[str] | None = None) -> imports.Imports:
    write(root, {"project/models/net.py": text})
    return follow(root / "project/models/net.py", root / "project", declared)


TREE = {
    "project/models/layers.py": "import norms\n",
    "project/models/norms.py": "EPS = 1\n",
    "project/models/unused.py": "",
    "project/shared/deep/net.py": "",  # in folders that are no regular packages
    "project/company/__init__.py": "from . import registry\n",
    "project/company/registry.py": "",
    "project/company/blocks.py": "from .parts.conv import Conv\nfrom .. import above\n",
    "project/company/parts/__init__.py": "",
    "project/company/parts/conv.py": "from ..registry import x\nfrom . import act\n",
    "project/company/parts/act.py": "",
    "project/company/parts/other.py": "",
    "project/company/anchors.json": "[]",
    "project/company/tables/coco.txt": "",
    "on_path/tools.py": "",
    "project/late/__init__.py": "__all__ = ['a']\n",
    "project/late/a.py": "",
}
COMPANY = {"company/__init__.py", "company/registry.py", "company/anchors.json"}
COMPANY |= {"company/tables/coco.txt"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import layers", {"layers.py", "norms.py"}),
        ("from layers import norms, Block", {"layers.py", "norms.py"}),
        ("def build():\n    if 1:\n        import layers", {"layers.py", "norms.py"}),
        ("try:\n    import nothing\nexcept ImportError:\n    import norms", {"norms.py"}),
        ("import shared.deep.net", {"shared/deep/net.py"}),
        ("from shared.deep import net", {"shared/deep/net.py"}),
        ("import company", COMPANY),
        (
            "import company.blocks as b",
            {*COMPANY, "company/blocks.py", "company/parts/__init__.py"}
            | {"company/parts/conv.py", "company/parts/act.py"},
        ),
        (
            "from company.parts import act",
            {*COMPANY, "company/parts/__init__.py", "company/parts/act.py"},
        ),
        ("from late import *", {"late/__init__.py", "late/a.py"}),
        ("import tools", {"tools.py"}),
        ("import importlib as i\ni.import_module('norms')", {"norms.py"}),
        ("from importlib import import_module as f\nf('norms')", {"norms.py"}),
        ("__import__('norms')", {"norms.py"}),
        (
            "import importlib\nimportlib.import_module('.parts.act', package='company')",
            {*COMPANY, "company/parts/__init__.py", "company/parts/act.py"},
        ),
        ("import models.norms", {"models/norms.py"}),
        ("import os, sys, torch.nn, numpy as np\nfrom PIL import Image", set()),
        ("import google.protobuf.message", set()),  # a namespace package of a locked one
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import norms", set()),
        ("if __name__ == '__main__':\n    import norms", set()),
    ],
)
def test_imports_are_followed(tmp_path, path, text, expected):
    write(tmp_path, TREE)
    found = followed(tmp_path, text)
    assert found.files.keys() == {"net.py", *expected}
    assert (found.packages, found.problems, found.missing) == ({}, [], [])


def test_nothing_is_run(tmp_path, path):
    write(tmp_path, {"project/bad/__init__.py": "raise SystemExit", "project/bad/a.py": "1 / 0"})
    assert "bad/a.py" in followed(tmp_path, "import bad.a\nraise SystemExit").files


@pytest.mark.parametrize(
    ("file", "new", "changes"),
    [
        ("project/models/norms.py", "EPS = 2\n", True),
        ("project/models/norms.py", "EPS = 1  # the usual one\n", False),
        ("project/models/unused.py", "X = 1", False),
        ("project/models/torch.py", "X = 1", False),  # the installed one has precedence
        ("on_path/norms.py", "EPS = 3\n", True),  # found before the one beside the model
    ],
)
def test_what_counts_as_a_change(tmp_path, path, file, new, changes):
    write(tmp_path, TREE)
    text = "import torch, layers"
    before = followed(tmp_path, text).contents()
    norms = tmp_path / "project/models/norms.py"
    stat = norms.stat()
    write(tmp_path, {file: new})
    os.utime(norms, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # an old date hides nothing
    assert (followed(tmp_path, text).contents() != before) is changes


def test_a_file_that_appears_counts(tmp_path, path):
    text = "try:\n    import fast\nexcept ImportError:\n    fast = None"
    before = followed(tmp_path, text).digest()
    write(tmp_path, {"project/models/fast.py": ""})
    assert followed(tmp_path, text).digest() != before


def test_digests_are_equal_in_every_folder(tmp_path, path, monkeypatch):
    digests = set()
    for name in ("a", "another/place"):
        root = tmp_path / name
        write(root, TREE)
        monkeypatch.chdir(root)
        digests.add(followed(root, "import layers, company.blocks").digest())
    assert len(digests) == 1


OBSCURE = {
    "import importlib\nimportlib.import_module(name)": 2,
    "from importlib import import_module\nx = [import_module(n) for n in names]": 2,
    "import importlib\nf = importlib.import_module": 2,
    "import importlib\ngetattr(importlib, 'import_module')(name)": 2,
    "\n__import__(name)": 2,
    "map(__import__, names)": 1,
    "exec(open('other.py').read())": 1,
    "import runpy\nrunpy.run_path('other.py')": 2,
    "from importlib.util import spec_from_file_location as s\ns('a', 'b.py')": 2,
    "import importlib.machinery\nimportlib.machinery.SourceFileLoader('a', 'b').load_module()": 2,
    "import sys\nsys.path.insert(0, '/elsewhere')": 2,
    "import sys\nsys.path += ['/elsewhere']": 2,
    "import sys\nsys.path[:0] = ['/elsewhere']": 2,
    "from sys import path\npath.append('/elsewhere')": 2,
    "import sys as s\ndef build():\n    s.path = []": 3,
    "import torch\ntorch.hub.load('a/b', 'c')": 2,
    "from transformers import AutoModel\nAutoModel.from_pretrained(x, trust_remote_code=True)": 2,
}


@pytest.mark.parametrize("text", OBSCURE)
def test_what_cannot_be_followed_is_told_with_its_line_unless_it_is_declared(tmp_path, path, text):
    (problem,) = followed(tmp_path, text).problems
    assert problem.startswith(f"models/net.py:{OBSCURE[text]} ")
    assert problem.endswith(f": `{text.splitlines()[OBSCURE[text] - 1].strip()}`")
    assert followed(tmp_path, text, []).problems == []
    # In a helper as well.
    write(tmp_path, {"project/models/helper.py": text})
    (problem,) = followed(tmp_path, "import helper").problems
    assert problem.startswith(f"models/helper.py:{OBSCURE[text]} ")


@pytest.mark.parametrize(
    "text",
    [
        "import sys\nprint(sys.path)",
        "model.eval()\neval('1')",
        "class A:\n    def exec(self): ...\nA().exec()",
        "import os\nos.path.join('a')",
        "import importlib\nimportlib.reload(importlib)",
    ],
)
def test_what_hides_no_import_is_no_problem(tmp_path, path, text):
    assert followed(tmp_path, text).problems == []


def test_declared_packages_files_and_folders_count_as_a_whole(tmp_path, path):
    write(tmp_path, TREE)
    text = "import importlib\nimportlib.import_module(name)"
    found = followed(tmp_path, text, ["company.parts", "shared/", "models/norms.py", "torch"])
    parts = {f"company/parts/{name}.py" for name in ("__init__", "conv", "act", "other")}
    assert found.files.keys() == {
        *("net.py", "shared/deep/net.py", "models/norms.py", *parts, *COMPANY)
    }
    assert found.missing == []
    assert followed(tmp_path, text, ["nothing", "no/folder"]).missing == ["nothing", "no/folder"]


def install(site: Path, name: str, version: str, text: str = "", needs: str = "") -> None:
    files = {
        f"{name}/__init__.py": text,
        f"{name}-{version}.dist-info/METADATA": f"Name: {name}\n{needs}",
        f"{name}-{version}.dist-info/RECORD": f"{name}/__init__.py,,\n../../bin/{name},,\n",
    }
    write(site, files)
    for function in (installed.distributions, installed.owner, installed._record):
        function.cache_clear()
    for function in (imports.kind_of, imports._digest):
        function.cache_clear()


def test_a_package_that_is_not_in_the_lock_counts_with_its_files_and_what_it_needs(tmp_path, path):
    site = tmp_path / "site-packages"
    needs = "Requires-Dist: layer_lib>=1\nRequires-Dist: torch\n"
    install(site, "zoo", "1.0", "import importlib\nimportlib.import_module(x)", needs)
    install(site, "layer_lib", "2.0")
    text = "from zoo.models import net"
    found = followed(tmp_path, text)
    assert found.packages.keys() == {"zoo", "layer-lib"}
    assert found.problems == []  # nobody can change the package
    assert found.libraries == {"zoo.models": {"net"}}
    assert found.contents()["package zoo"].startswith("1.0 ")
    before = found.digest()
    assert followed(tmp_path, text).digest() == before
    install(site, "layer_lib", "2.0", "X = 1")
    assert followed(tmp_path, text).digest() != before


def test_a_package_that_is_installed_from_a_folder_counts_by_its_files(tmp_path, path, monkeypatch):
    write(tmp_path, {"home/src/company/__init__.py": "", "home/src/company/a.py": ""})

    class Finder:
        """As setuptools writes it for ``pip install -e``."""

        @staticmethod
        def find_spec(name, path=None, target=None):
            from importlib.util import spec_from_file_location

            file = tmp_path / "home/src/company/__init__.py"
            return spec_from_file_location(name, file) if name == "company" else None

    Finder.__module__ = "__editable___company_1_0_finder"
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    found = followed(tmp_path, "from company import a")
    assert found.files.keys() == {"net.py", "company/__init__.py", "company/a.py"}
    # Outside of the project, so by their fingerprints.
    listed = found.listed(tmp_path / "project")
    assert listed["project"] == {"net.py": "models/net.py"}
    assert listed["elsewhere"].keys() == {"company/__init__.py", "company/a.py"}


def test_a_fork_server_loads_no_files_of_the_user(tmp_path, path):
    write(tmp_path, {**TREE, "project/models/layers.py": "from torch import nn\nimport norms\n"})
    found = followed(tmp_path, "import layers, tools, json, numpy\ndef f():\n    import scipy")
    assert found.libraries == {"torch": {"nn"}, "numpy": set()}


def test_a_step_refuses_other_code_than_was_planned(tmp_path, path):
    write(tmp_path, TREE)
    planned = followed(tmp_path, "import layers").contents()
    check_imports(followed(tmp_path, "import layers"), planned)
    write(tmp_path, {"project/models/norms.py": "EPS = 2\n"})
    with pytest.raises(ModelError, match=r"^norms\.py: changed since this build was planned"):
        check_imports(followed(tmp_path, "import layers"), planned)


def test_the_description_of_a_model_is_that_of_the_code_that_was_planned(tmp_path, capfd):
    write(tmp_path, TREE)
    model, root = tmp_path / "project/models/net.py", tmp_path / "project"
    write(tmp_path, {"project/models/net.py": "import layers"})
    paths = {"module": "models/net.py", "weights": "w", "data": {}}
    arguments = {
        "module": str(model),
        "imports": follow(model, root).digest(),
        "slice": '{"sha256": {}, "declared_imports": null}',
        "paths": json.dumps(paths),
        "output": str(tmp_path / "net.json"),
    }
    command = [f"--{name}={value}" for name, value in arguments.items()]
    assert describe.main(command) == 0
    described = read_json(tmp_path / "net.json")
    assert described["module"] == "models/net.py"
    assert described["listed"]["project"]["norms.py"] == "models/norms.py"
    write(tmp_path, {"project/models/norms.py": "EPS = 2\n"})  # edited since
    assert describe.main(command) == 1
    assert "models/net.py, or what it imports, has changed" in capfd.readouterr().err


@pytest.fixture
def forgotten(monkeypatch):
    """Forgets what a test imports, and where from."""
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(source_loader._FINDER, "folders", {})
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_modules_beside_the_model_and_in_the_project_are_importable(tmp_path, forgotten):
    write(tmp_path, TREE)
    write(
        tmp_path,
        {"project/models/net.py": f"import layers, shared.deep.net, models.norms\n{FUNCTIONS}"},
    )
    root, paths = tmp_path / "project", [*sys.path]
    module = ModelModule.load(root / "models/net.py", None, {}, {}, root).module
    assert isinstance(module.layers.norms, ModuleType)
    assert module.shared.deep.net.__file__ == str(root / "shared/deep/net.py")
    assert not list(root.rglob("__pycache__"))
    assert sys.path == paths
    assert sys.modules["models.net"] is module  # by which torch finds its classes
    # Another model, in the same process, has a module of that name too.
    write(tmp_path, {"b/net.py": f"import layers\n{FUNCTIONS}", "b/layers.py": "HERE = 1"})
    assert ModelModule.load(tmp_path / "b/net.py", None, {}, {}).module.layers.HERE == 1


def test_an_error_in_a_helper_is_told_with_both_places(tmp_path, forgotten, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = f"import layers\n{FUNCTIONS}def dynamic_shapes():\n    return layers.shapes()\n"
    write(tmp_path, {"net.py": text, "layers.py": "def shapes():\n    return 1 / 0\n"})
    model = ModelModule.load(Path("net.py"), None, {}, {})
    said = r"^net\.py:7 \(in layers\.py:2\): dynamic_shapes\(\) raised ZeroDivisionError"
    with pytest.raises(ModelError, match=said):
        model.dynamic_shapes()


def test_libraries_do_not_find_what_is_beside_the_model(tmp_path, forgotten):
    """transformers asks for timm, and would get a model of that name."""
    write(tmp_path, {"timm.py": "1 / 0", "net.py": f"import layers\n{FUNCTIONS}", "layers.py": ""})
    ModelModule.load(tmp_path / "net.py", None, {}, {})
    assert importlib.util.find_spec("layers") is not None
    assert importlib.util.find_spec("timm") is None


@pytest.mark.parametrize("file", ["models/net.py", "models/norms.py"])
def test_a_compiled_file_of_an_earlier_source_is_not_used(tmp_path, forgotten, file):
    """Python believes in it if size and date, in seconds, are the same: two edits in one second."""
    import py_compile

    root = tmp_path / "project"
    write(root, {"models/net.py": f"from norms import EPS\n{FUNCTIONS}", "models/norms.py": ""})
    text = (root / file).read_text()
    for value in (1, 2):
        (root / file).write_text(f"{text}\nEPS = {value}\n")
        os.utime(root / file, (1_700_000_000, 1_700_000_000))
        if value == 1:
            py_compile.compile(str(root / file), doraise=True)
            (root / "models/norms.py").touch()
    assert list(root.rglob("*.pyc"))
    if file == "models/net.py":
        (root / "models/norms.py").write_text("EPS = 0\n")
    assert ModelModule.load(root / "models/net.py", None, {}, {}, root).module.EPS == 2


@pytest.mark.parametrize(
    "hidden",
    [
        "import importlib\ni = importlib\ni.import_module('shared.deep.' + 'net')",
        "eval('__import__(\"shared.deep.net\")')",
        "import pickle\npickle.loads(b'cshared.deep.net\\nNAME\\n.')",
    ],
)
@pytest.mark.parametrize("where", ["at the top", "in a function"])
def test_what_planning_has_missed_is_noticed_when_it_runs(tmp_path, forgotten, hidden, where):
    """No analysis of a text is complete, so the steps look at what was imported in the end."""
    body = hidden if where == "at the top" else ""
    late = "" if body else "    " + hidden.replace("\n", "\n    ") + "\n"
    text = f"import shared\n{body}{FUNCTIONS}def dynamic_shapes():\n{late}    return None\n"
    write(tmp_path, {"models/net.py": text, "shared/deep/net.py": "NAME = 1"})

    def run(imports):
        ModelModule.load(
            tmp_path / "models/net.py", None, {}, {}, tmp_path, imports
        ).dynamic_shapes()

    plain = follow(tmp_path / "models/net.py", tmp_path)
    assert plain.problems == []
    with pytest.raises(ModelError, match=r"imported shared\.deep\.net .*model's `imports`"):
        run(plain)
    run(follow(tmp_path / "models/net.py", tmp_path, ["shared.deep.net"]))


def test_paths_of_the_project():
    root = Path("/a/b")
    assert path_from(root, Path("/a/b/models/net.py")) == "models/net.py"
    assert path_from(root, Path("/a/c/net.py")) is None
    assert project_of(Path("/a/b/models/net.py"), "models/net.py") == root
    assert project_of(Path("/a/c/net.py"), "../c/net.py") is None
    assert project_of(Path("/a/c/net.py"), "/a/c/net.py") is None
