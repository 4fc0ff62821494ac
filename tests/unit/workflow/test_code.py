"""Protects the rule that code is an input: what counts as a change of a step, and what not."""

import textwrap
from pathlib import Path

import pytest
from pte_foundry.workflow import code

ROOT = Path(__file__).resolve().parents[3]


def names(step: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in code.closure(step, ROOT)}


def test_closure_holds_the_step_and_what_it_imports_and_the_packages_on_the_way():
    found = names("calibrate")
    assert {
        "scripts/pte_foundry/steps/calibrate.py",
        "scripts/pte_foundry/job/command.py",
        "scripts/pte_foundry/job/deterministic_env.py",
    } <= found
    assert {
        "scripts/pte_foundry/quantize/pt2e.py",
        "scripts/pte_foundry/quantize/__init__.py",
        "scripts/pte_foundry/__init__.py",
    } <= found
    assert (
        not {"scripts/pte_foundry/steps/convert.py", "scripts/pte_foundry/steps/lower.py"} & found
    )


def test_closure_of_a_package_holds_its_main_module():
    assert "scripts/pte_foundry/steps/validate.py" in names("validate")


def test_the_report_never_reaches_the_interpreter():
    assert not [name for name in names("report") if name.startswith("scripts/pte_foundry/mil/")]


@pytest.fixture
def project(tmp_path):
    lock = tmp_path / "lock.txt"
    lock.write_text("torch==1\n")
    source = tmp_path / "step.py"
    source.write_text(
        textwrap.dedent(
            '''
            """Module."""
            def f(x):
                """Doubles."""
                return 2 * x  # twice
            '''
        )
    )

    def digest():
        code._meaning.cache_clear()
        code._requirements.cache_clear()
        return code.digest([source], lock, tmp_path)

    return source, lock, digest


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# twice", "# two times"),
        ("Doubles.", "Gives twice x."),
        ("2 * x", "(2 * x)"),
        ("\ndef", "\n\n\ndef"),
    ],
)
def test_comments_docstrings_and_layout_do_not_count(project, old, new):
    source, _, digest = project
    before = digest()
    source.write_text(source.read_text().replace(old, new))
    assert digest() == before


@pytest.mark.parametrize(("old", "new"), [("2 * x", "x * 2"), ("def f(x)", "def f(x=1)")])
def test_code_counts_even_with_an_old_date(project, old, new):
    import os

    source, _, digest = project
    before = digest()
    stat = source.stat()
    source.write_text(source.read_text().replace(old, new))
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digest() != before


def test_a_locked_version_counts_and_a_comment_in_the_lock_does_not(project):
    _, lock, digest = project
    before = digest()
    lock.write_text("# resolved today\ntorch==1\n\n")
    assert digest() == before
    lock.write_text("torch==2\n")
    assert digest() != before


def test_swapping_the_contents_of_two_files_counts(tmp_path):
    lock = tmp_path / "lock"
    lock.write_text("")
    a, b = tmp_path / "a.py", tmp_path / "b.py"
    a.write_text("X = 1")
    b.write_text("X = 2")
    before = code.digest([a, b], lock, tmp_path)
    a.write_text("X = 2")
    b.write_text("X = 1")
    code._meaning.cache_clear()
    assert code.digest([a, b], lock, tmp_path) != before
