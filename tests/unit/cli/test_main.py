"""Protects the command itself: help, exit codes, messages about failures, and a fast start."""

import importlib
import os
import re
import shlex
import subprocess
import sys
import types
from importlib import metadata

import pytest
from pte_foundry.cli.main import COMMANDS, help_text, parser_of
from pte_foundry.errors import FoundryError
from pte_foundry.version import own_version

from tests.markers import NEEDS_DEV_FULL
from tests.project import ROOT

ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
MODULES = {name: importlib.import_module(f"pte_foundry.cli.{name}") for name in COMMANDS}
either_buffering = pytest.mark.parametrize("unbuffered", ["", "1"])
each_command = pytest.mark.parametrize("name", COMMANDS)


@pytest.fixture
def failing(monkeypatch):
    """The command ``check``, if it failed so."""

    def failing(error):
        def run(arguments):
            raise error

        monkeypatch.setattr(MODULES["check"], "run", run)

    monkeypatch.delenv("PTE_FOUNDRY_TRACEBACK", raising=False)
    return failing


def test_help_lists_every_command_and_every_exit_code(call):
    code, out, err = call("--help")
    assert (code, err, out) == (0, "", help_text())
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.help)}$", out, re.MULTILINE)
        assert out.index(f"\n{command.heading}:\n") < out.index(f"\n  {name} ")
    listed = {int(n) for n in re.findall(r"^  (\d+) ", out, re.MULTILINE)}
    own = {code for module in MODULES.values() for code in getattr(module, "EXIT_CODES", {})}
    assert listed == {0, 1, 2, 70, 130, 141} | own
    assert max(map(len, out.splitlines())) <= 80


@each_command
def test_the_help_of_a_command_describes_it_with_examples_and_exit_codes(call, monkeypatch, name):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = call(name, "--help")
    assert code == 0
    assert out.startswith(f"usage: pte-foundry {name} [-h]")
    assert MODULES[name].DESCRIPTION in out
    assert MODULES[name].EXAMPLES in out
    assert {int(n) for n in re.findall(r"^  (\d+)  ", out.split("exit codes:")[1], re.M)} >= {
        0,
        1,
        2,
    }
    assert max(map(len, out.splitlines())) <= 80


def examples():
    """Every command of every example: without its comment, and until a pipe or a redirection."""
    texts = [help_text(), *(module.EXAMPLES for module in MODULES.values())]
    for line in "".join(texts).replace("\\\n", "").splitlines():
        if line.startswith("  pte-foundry "):
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            yield list(lexer)[1:]


@pytest.mark.parametrize("words", examples(), ids=" ".join)
def test_every_example_is_a_sound_command(words):
    end = next((i for i, word in enumerate(words) if word in ("|", ">", "&&")), len(words))
    name, *arguments = words[:end]
    parser_of(name, MODULES[name]).parse_args(arguments)


@each_command
def test_every_argument_is_explained(name):
    actions = parser_of(name, MODULES[name])._actions
    assert [action.dest for action in actions if not action.help] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["chek"], "unknown command 'chek': did you mean check?"),
        (["Tabel"], "unknown command 'Tabel': did you mean table?"),
        (["quux\x1b[2J"], "unknown command 'quux\\x1b[2J': see --help"),
        (["--json"], "unknown option '--json'; options of a command come after it"),
        ([], "a command is missing"),
        (["--traceback"], "a command is missing"),
    ],
)
def test_wrong_usage_is_a_message_and_code_2(call, words, message):
    code, out, err = call(*words)
    assert (code, out) == (2, "")
    assert err.splitlines()[0] == f"pte-foundry: error: {message}"
    assert "pte-foundry --help" in err


def test_an_option_that_a_command_lacks_shows_the_usage_of_the_command(call):
    code, out, err = call("table", "--jsn")
    assert (code, out) == (2, "")
    assert err.startswith("usage: pte-foundry table")
    assert err.endswith("pte-foundry table: error: unrecognized arguments: --jsn\n")


def test_versions_are_those_that_are_installed(call):
    code, out, _ = call("--version")
    versions = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert code == 0
    assert versions.pop("pte-foundry").startswith(own_version())
    assert versions.pop("python") == ".".join(map(str, sys.version_info[:3]))
    assert versions.keys() >= {"torch", "executorch", "coremltools"}
    assert versions == {name: metadata.version(name) for name in versions}


def test_a_library_that_is_missing_is_shown_as_such(call, monkeypatch):
    def version(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    assert "\ntorch not installed\n" in call("--version")[1]


HEAVY = "torch", "numpy", "coremltools", "executorch", "torchao", "transformers", "altair"


@pytest.mark.parametrize(
    "words", [["--help"], ["--version"], ["check"], ["check", "--help"], ["table"], ["run", "-h"],
              ["config", "schema"], ["resume", "--help"]], ids=" ".join
)  # fmt: skip
def test_what_needs_no_library_loads_none(words, summary, tmp_path):
    words = (
        [*words, f"--root={ROOT}", f"{ROOT}/config/config.yaml"] if words == ["check"] else words
    )
    code = (
        "import sys; from pte_foundry.cli import main; code = main(sys.argv[1:]);"
        f"print(code, [n for n in {HEAVY} if n in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ("1 []\n" if words == ["table"] else "0 []\n")  # a build has failed
    assert done.stdout


def test_an_error_of_the_user_is_its_message(call, failing):
    failing(FoundryError("put [a] into b\nand c\x1b[2J"))
    assert call("check") == (1, "", "error: put [a] into b\nand c\\x1b[2J\n")


def test_an_error_of_the_system_names_the_file(call, failing):
    failing(PermissionError(13, "Permission denied", "a/b.json"))
    assert call("check") == (1, "", "error: a/b.json: Permission denied\n")


def test_a_missing_library_names_how_to_install_it(call, failing):
    failing(ModuleNotFoundError("No module named 'pydantic'", name="pydantic"))
    code, _, err = call("check")
    assert code == 1
    assert err.startswith("error: No module named 'pydantic'. Only the interpreter seems")
    assert "pip install 'pte-foundry[build]'" in err


@pytest.mark.parametrize("error", [KeyError("totals\nx"), BaseException("panic")])
def test_a_bug_is_one_line_that_says_how_to_get_the_traceback(call, failing, monkeypatch, error):
    failing(error)
    code, out, err = call("check")
    assert (code, out, err.count("\n")) == (70, "", 1)
    assert err.startswith(f"error: {type(error).__name__}: ")
    assert "--traceback or PTE_FOUNDRY_TRACEBACK=1" in err
    for words in (["--traceback", "check"], ["check", "--traceback"]):
        code, _, err = call(*words)
        assert (code, "Traceback (most recent call last)" in err) == (70, True)
    monkeypatch.setenv("PTE_FOUNDRY_TRACEBACK", "1")
    assert "Traceback (most recent call last)" in call("check")[2]


def test_the_traceback_of_an_error_of_the_user_can_be_had_as_well(call, failing):
    failing(FoundryError("put a into b"))
    code, _, err = call("check", "--traceback")
    assert (code, err.endswith("error: put a into b\n")) == (1, True)
    assert "Traceback (most recent call last)" in err


def test_an_interrupt_ends_quietly(call, failing):
    failing(KeyboardInterrupt())
    assert call("check") == (130, "", "")


@either_buffering
@pytest.mark.parametrize(
    "words", [["--help"], ["table", "--help"], ["config", "docs"], ["table"], ["table", "--json"]],
    ids=" ".join,
)  # fmt: skip
def test_a_reader_that_has_gone_ends_the_command_quietly(words, unbuffered, summary, tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "pte_foundry", *words],
        cwd=tmp_path,
        env=ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, "")


@either_buffering
@NEEDS_DEV_FULL
def test_a_full_disk_is_an_error(unbuffered):
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pte_foundry", "--help"],
            env=ENVIRONMENT | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "error: No space left on device\n")


def test_a_locale_without_the_characters_of_a_table_gets_escapes(summary, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "pte_foundry", "table"],
        cwd=tmp_path,
        env=ENVIRONMENT | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "\\u2212" in done.stdout


def test_a_new_command_is_one_module_and_one_entry(call, monkeypatch):
    module = types.SimpleNamespace(
        DESCRIPTION="Says hello.",
        EXAMPLES="  pte-foundry hello\n",
        add_arguments=lambda parser: parser.add_argument("name", help="whom to greet"),
        run=lambda arguments: print("hello", arguments.name) or 0,
    )
    monkeypatch.setitem(sys.modules, "pte_foundry.cli.hello", module)
    monkeypatch.setitem(COMMANDS, "hello", COMMANDS["check"]._replace(help="say hello"))
    assert call("hello", "you") == (0, "hello you\n", "")
    assert "  hello      say hello\n" in call("--help")[1]
    assert "Says hello." in call("hello", "--help")[1]
