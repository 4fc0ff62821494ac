"""Protects users from riddles: a path that cannot work is refused in one sentence."""

import os
from pathlib import Path

import pytest
from pte_foundry.workflow.paths import PathError, check_folder, literal

USUAL = '/a/it\'s "$(touch x)" %;\\*#~&-=,[]<>|?!^@é\n/c'


def test_any_other_character_works():
    assert literal(f"{USUAL}:") == f"{USUAL}:"
    check_folder(Path(f"{USUAL}:{{}}"))
    check_folder(Path(f"{USUAL}{{}}"), in_list=True)


@pytest.mark.parametrize("path", ["a{b", "a}b", "{model}"])
def test_braces_in_a_path_that_rules_name(path):
    with pytest.raises(PathError, match=f"the path '{path}' has braces, .* rename"):
        literal(path)


def test_a_folder_that_separates_itself():
    with pytest.raises(PathError, match=r"the path of the folder '/a:b' has a ':', .*; rename"):
        check_folder(Path("/a:b"), in_list=True)


def test_bytes_that_are_no_text():
    with pytest.raises(PathError, match=r"'/a\\udcff' is not UTF-8, .*; rename the folder"):
        check_folder(Path(os.fsdecode(b"/a\xff")))
    with pytest.raises(PathError, match="UTF-8"):
        literal(os.fsdecode(b"a\xff"))
