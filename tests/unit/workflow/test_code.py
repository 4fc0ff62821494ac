"""Protects the rule that code is an input: what counts as a change of a stage, and what not."""

import os
import textwrap

import pytest
from pte_foundry.lock import LIBRARY
from pte_foundry.quantize import schemes
from pte_foundry.workflow import code
from pte_foundry.workflow.stages import FEEDING_BYTES, STAGES


def names(*modules: str) -> set[str]:
    return {path.relative_to(LIBRARY).as_posix() for path in code.closure(*modules)}


def of(stage: str) -> set[str]:
    return names(code.command_of(stage))


def test_closure_contains_the_command_what_it_imports_and_the_packages_on_the_way():
    found = of("calibrate")
    assert {"steps/calibrate.py", "job/command.py", "job/deterministic_env.py"} <= found
    assert {"quantize/pt2e.py", "quantize/__init__.py", "__init__.py"} <= found
    assert not {"steps/convert.py", "steps/lower.py"} & found


def test_closure_contains_the_assets_of_a_module():
    assets = {"report/page_assets/page.html.j2", "report/page_assets/page.css"}
    assert assets <= of("report")
    assert not assets & of("summary")


@pytest.mark.parametrize("stage", FEEDING_BYTES)
def test_what_feeds_bytes_contains_neither_interpreter_nor_configuration(stage):
    rooms = {name.split("/")[0] for name in of(stage)}
    assert not rooms & {"mil", "pte", "validate", "report", "config", "workflow", "cli", "bench"}


@pytest.mark.parametrize("stage", ["report", "summary", "manifest"])
def test_reports_contain_no_interpreter(stage):
    assert not {"mil", "pte"} & {name.split("/")[0] for name in of(stage)}


@pytest.mark.parametrize("stage", STAGES)
def test_no_stage_depends_on_the_table_of_stages(stage):
    """Else an edit of one stage's memory would run all of them again."""
    assert not [name for name in of(stage) if name.startswith("workflow/")]


def test_a_conversion_contains_the_code_of_its_own_scheme_alone():
    schemes_alone = {name for name in of("convert") if name.startswith("quantize/schemes/")}
    assert schemes_alone == {"quantize/schemes/__init__.py"}
    pt2e = names(code.command_of("convert"), schemes.name_of("pt2e"))
    assert "quantize/pt2e.py" in pt2e
    assert "quantize/weight_only.py" not in pt2e
    assert "quantize/weight_only.py" in names(schemes.name_of("quantize"))


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
        code.locked_versions.cache_clear()
        code._environment.cache_clear()
        return code.contents([source], lock)

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
    source, _, digest = project
    before = digest()
    stat = source.stat()
    source.write_text(source.read_text().replace(old, new))
    os.utime(source, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert digest() != before


def test_a_locked_version_counts_but_no_comment_and_no_hash(project):
    """Builds of one version from different indexes have different hashes and give equal bytes."""
    _, lock, digest = project
    before = digest()
    lock.write_text("# resolved today\ntorch==1 \\\n    --hash=sha256:abc\n\n")
    assert digest() == before
    lock.write_text("torch==2\n")
    assert digest() != before


def test_swapping_the_contents_of_two_files_counts(tmp_path):
    lock = tmp_path / "lock"
    lock.write_text("")
    a, b = tmp_path / "a.py", tmp_path / "b.py"
    a.write_text("X = 1")
    b.write_text("X = 2")
    before = code.contents([a, b], lock)
    a.write_text("X = 2")
    b.write_text("X = 1")
    assert code.contents([a, b], lock) != before
