"""The code of the user's models in messages: its source lines, and the errors that it raises."""

import os
import re
import sysconfig
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pte_foundry.errors import ModelError
from pte_foundry.lock import LIBRARY
from pte_foundry.models.source_loader import is_of_a_user
from pte_foundry.packages import how_to_install

_INSTALLED = "site-packages/"
_STANDARD = Path(sysconfig.get_path("stdlib"))
_PLAIN_IMPORTS = (
    "a model's file is in no package, so it has no relative imports; import a file beside it by "
    "its name alone (`import layers`), and a module of the project by its path (`import a.b`)"
)
# Packages whose lines say nothing about a model.
_FRAMEWORKS = ("torch", "torchao", "functorch", "executorch", "coremltools", "numpy")
# A frame of a node's stack trace; the text of its line may be missing.
_FRAME = re.compile(r'File "([^"]+)", line (\d+), in [^\n]*(?:\n[ \t]+(?!File ")([^\n]*\S))?')


@contextmanager
def model_errors(path: Path, function: str) -> Iterator[None]:
    """Turns any exception into a ModelError that names the file, the line and the function."""
    try:
        yield
    except ModelError as error:
        if str(error).startswith(f"{path}:"):  # of a function that this one calls
            raise
        raise ModelError(f"{path}: {function}() {error}.") from error
    except SystemExit as error:
        where, _ = place_of(path, error)
        raise ModelError(
            f"{where}: {function}() ended the process by sys.exit({error.code!r}); a model module "
            "must not read the command line or exit: move that below `if __name__ == '__main__':`"
        ) from error
    except ModuleNotFoundError as error:
        where, line = place_of(path, error)
        relative = re.match(r"from \.", line)
        fix = _PLAIN_IMPORTS if relative else _install(error)
        raise ModelError(
            f"{where}: {function}() raised {type(error).__name__}: {error}; {fix}"
        ) from error
    except Exception as error:
        where, line = place_of(path, error)
        text = str(error) or "without a message" + (f": `{line}`" if line else "")
        raise ModelError(f"{where}: {function}() raised {type(error).__name__}: {text}") from error


def place_of(path: Path, error: BaseException) -> tuple[str, str]:
    """Returns where the code of a model raised an error: ``model.py:17``, and that line's text.

    Without a frame in the module's file the place is the file alone. If a helper or a package that
    the module calls raised the error, its line follows: ``model.py:17 (in timm/layers.py:4)``.

    Args:
        path: the module's file.
        error: with its traceback.
    """
    if isinstance(error, SyntaxError) and error.filename == str(path.absolute()):
        return f"{path}:{error.lineno}", (error.text or "").strip()
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename) == path.absolute()]
    where = f"{path}:{own[-1].lineno}" if own else str(path)
    called = [
        frame
        for frame in frames
        if (_installed(frame.filename) and not _is_of_a_framework(frame.filename))
        or (is_of_a_user(frame.filename) and frame not in own)
    ]
    if called and (not own or frames.index(called[-1]) > frames.index(own[-1])):
        inner = called[-1]
        return f"{where} (in {shown_path(inner.filename)}:{inner.lineno})", inner.line or ""
    return where, (own[-1].line or "") if own else ""


def _installed(file: str) -> str:
    """The path of a file inside of site-packages; empty if it is elsewhere."""
    before, found, inside = file.rpartition(_INSTALLED)
    return inside if found and (not before or before.endswith("/")) else ""


def _is_of_a_framework(file: str) -> bool:
    return _installed(file).partition("/")[0] in _FRAMEWORKS


def _install(error: ModuleNotFoundError) -> str:
    name = (error.name or "").partition(".")[0]
    return how_to_install(f"the package that has {name}")


def source_line(meta: Mapping[str, Any]) -> str:
    """Returns the line of the model's source that made a node, as it was when it was exported.

    ``model.py:17: y = self.pool(x)``: the innermost call that is not in torch. torch keeps the
    trace in the programs on disk too, with the paths of :func:`portable_trace`.

    Args:
        meta: a node's ``meta``; a ``stack_trace`` lists the outermost frame first.
    """
    frames = _FRAME.findall(meta.get("stack_trace") or "")
    # torch runs generated code too, whose file is called <eval_with_key>.7.
    own = [frame for frame in frames if frame[0][0] != "<" and not _is_of_a_framework(frame[0])]
    if not own:
        return ""
    file, line, text = own[-1]
    return f"{shown_path(file)}:{line}" + (f": {text}" if text else "")


def shown_path(file: str) -> str:
    """Returns the path of a source file for a message.

    The path in the installed package, or from the current folder, or the last folder and the name.
    A relative path, as in a program that was read from disk, stays as it is.
    """
    path = Path(file)
    if inside := _installed(file):
        return inside
    if path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    return file if not path.is_absolute() else _last_two(path)


def portable_trace(trace: str, root: Path | None) -> str:
    """Returns a stack trace without the paths of this machine: equal in all folders, for all users.

    Files keep their path from the project, in site-packages, or in Python's own library. Of any
    other file its name and the name of its folder remain.

    Args:
        trace: a node's ``stack_trace``.
        root: the project's folder; None if it is not known.
    """
    return _FILE.sub(lambda found: f'File "{_portable(found[1], root)}"', trace)


_FILE = re.compile(r'File "(/[^"]*)"')


def _portable(file: str, root: Path | None) -> str:
    path = Path(os.path.normpath(file))
    if inside := _installed(file):
        return _INSTALLED + inside
    root = None if root is None else Path(os.path.abspath(root))
    for folder, above in ((_STANDARD, _STANDARD.parent), (LIBRARY, LIBRARY.parent), (root, root)):
        if folder is not None and path.is_relative_to(folder):
            return path.relative_to(above).as_posix()
    return _last_two(path)


def _last_two(path: Path) -> str:
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name
