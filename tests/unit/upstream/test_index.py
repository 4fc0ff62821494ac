"""Protects the index of patches: complete, with true versions, a skeleton and a test for each."""

import ast
import re
from pathlib import Path

import pytest
from pte_foundry import upstream
from pte_foundry.lock import lock_file, locked_versions
from pte_foundry.upstream.versions import PINNED

PACKAGE = Path(upstream.__file__).parent
HELPERS = {"__init__", "versions"}
FILES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem not in HELPERS)
INDEX = {
    name: (versions, reason)
    for name, versions, reason in re.findall(
        r"^(\w+) \(([^)]+)\)\n    (\S.*\.)$", upstream.__doc__, re.MULTILINE
    )
}
SKELETON = re.compile(
    r"^\S.*\.\n\nStands against: (?P<versions>.+)\n(?:Repairs|Uses): \S.*(?:\n    .+)*\n"
    r"Remove when: \S.*(?:\n    .+)*(?:\n\n[\s\S]+)?\n?$"
)


def read(versions):
    return dict(entry.split(" ") for entry in versions.split(", "))


def test_every_file_is_in_the_index():
    assert list(INDEX) == FILES


@pytest.mark.parametrize("name", FILES)
def test_every_file_says_version_reason_and_when_it_can_go(name):
    docstring = ast.get_docstring(ast.parse((PACKAGE / f"{name}.py").read_text()))
    skeleton = SKELETON.match(docstring)
    assert skeleton, f"{name}: the docstring lacks a field, or their order is another"
    assert INDEX[name][0] == skeleton["versions"]


@pytest.mark.parametrize("name", FILES)
def test_every_version_is_the_locked_one(name):
    """If this fails after an upgrade: read the sources that the file names again, then edit it."""
    locked = locked_versions(lock_file())
    against = read(INDEX[name][0])
    assert against == {package: locked[package] for package in against}
    assert name.partition("_")[0] in against
    assert against.keys() <= set(PINNED)


@pytest.mark.parametrize("name", FILES)
def test_every_file_has_a_test(name):
    test = Path(__file__).with_name(f"test_{name}.py")
    assert re.search(rf"pte_foundry\.upstream(\.| import ){name}\b", test.read_text())
