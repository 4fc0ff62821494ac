"""The code of the user's models in messages: its source lines, and the errors that it raises."""

import re
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pte_foundry.errors import ModelError

_INSTALLED = "/site-packages/"
_PLAIN_IMPORTS = (
    "a model's file is in no package, so it has no relative imports; install what it needs as a "
    "package (`pip install -e FOLDER`) and import that by its name"
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
        fix = _PLAIN_IMPORTS if relative else _install(path, error)
        raise ModelError(
            f"{where}: {function}() raised {type(error).__name__}: {error}; {fix}"
        ) from error
    except Exception as error:
        where, line = place_of(path, error)
        text = str(error) or "without a message" + (f": `{line}`" if line else "")
        raise ModelError(f"{where}: {function}() raised {type(error).__name__}: {text}") from error


def place_of(path: Path, error: BaseException) -> tuple[str, str]:
    """Returns where the code of a model raised an error: ``model.py:17``, and that line's text.

    Without a frame in the module's file the place is the file alone. If a package that the module
    calls raised the error, its line follows in parentheses: ``model.py:17 (in timm/layers.py:4)``.

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
        if _INSTALLED in frame.filename and not _is_of_a_framework(frame.filename)
    ]
    if called and (not own or frames.index(called[-1]) > frames.index(own[-1])):
        inner = called[-1]
        return f"{where} (in {shown_path(inner.filename)}:{inner.lineno})", inner.line or ""
    return where, (own[-1].line or "") if own else ""


def _is_of_a_framework(file: str) -> bool:
    _, _, inside = file.rpartition(_INSTALLED)
    return _INSTALLED in file and inside.partition("/")[0] in _FRAMEWORKS


def _install(path: Path, error: ModuleNotFoundError) -> str:
    name = (error.name or "").partition(".")[0]
    if (path.parent / f"{name}.py").is_file() or (path.parent / name).is_dir():
        return (
            f"Python does not look beside the model's file; install {name} as a package "
            "(`pip install -e FOLDER`), or add its folder to PYTHONPATH"
        )
    return f"add the package that has {name} to envs/models.in, then run `make lock` and `make`"


def source_line(meta: Mapping[str, Any]) -> str:
    """Returns the line of the model's source that made a node, as it was when it was exported.

    ``model.py:17: y = self.pool(x)``: the innermost call that is not in torch. torch keeps the
    trace in the programs on disk too; its paths never reach an artifact.

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
    """
    path = Path(file)
    _, installed, inside = file.rpartition(_INSTALLED)
    if installed:
        return inside
    if path.is_relative_to(Path.cwd()):
        return path.relative_to(Path.cwd()).as_posix()
    return f"{path.parent.name}/{path.name}" if path.parent.name else path.name
