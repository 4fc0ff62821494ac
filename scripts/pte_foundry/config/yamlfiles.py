"""Reading of config files as Snakemake reads them, with line numbers and duplicate keys."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pte_foundry.findings import ABSENT, Finding, KeyPath

COMMAND_LINE = "command line (--config)"


@dataclass
class ConfigFile:
    """One config file: its content, the line of every key, and the errors in its YAML.

    ``shown`` is its path for messages: as :func:`read` shows it.
    """

    shown: str
    path: Path
    data: dict[str, Any] = field(default_factory=dict)
    lines: dict[KeyPath, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """The folder that it is in."""
        return self.path.parent


def read(path: Path, *roots: Path) -> ConfigFile:
    """Read a YAML (or JSON) config file; problems become findings, not exceptions.

    Args:
        path: the file, which may be relative to the first root.
        roots: folders from which it is shown in messages.
    """
    absolute = roots[0] / path
    file = ConfigFile(_shown(absolute, roots), absolute)
    try:
        text = absolute.read_text(encoding="utf-8")
        # Snakemake uses FullLoader too, so `on` means the same to both.
        loader = yaml.FullLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _walk(loader, node, (), file, ())
        data = None if node is None or file.findings else loader.construct_document(node)
    except OSError as error:
        file.findings.append(_broken(file, error.strerror or str(error), "check the path"))
    except UnicodeDecodeError as error:
        file.findings.append(_broken(file, f"this is not UTF-8 text ({error})", "save it as UTF-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 0 if mark is None else mark.line + 1
        file.findings.append(
            _broken(file, f"this is not YAML: {error.problem or error.context}", _YAML_FIX, line)
        )
    except (yaml.YAMLError, ValueError) as error:
        file.findings.append(_broken(file, f"this is not YAML: {error}", _YAML_FIX))
    else:
        if isinstance(data, dict):
            file.data = data
        elif not file.findings:
            file.findings.append(
                _broken(file, "the file does not contain a mapping", "start with `models:`")
            )
    return file


def _shown(path: Path, roots: Sequence[Path]) -> str:
    """Return the path relative to the first of these folders or the current one that it is in.

    Also where one has symbolic links.
    """
    for folder in (*roots, Path.cwd()):
        for file, above in ((path, folder), (path.resolve(), folder.resolve())):
            if file.is_relative_to(above):
                return str(file.relative_to(above))
    return str(path)


_YAML_FIX = (
    "fix the syntax error; quote values that contain `: ` or `#` or start with a special character"
)


def _broken(file: ConfigFile, problem: str, fix: str, line: int = 0) -> Finding:
    where = f"{file.shown}:{line}" if line else file.shown
    return Finding((), problem, "YAML with a mapping at the top", fix, where=where)


def _walk(
    loader: yaml.Loader,
    node: yaml.Node,
    path: KeyPath,
    file: ConfigFile,
    above: tuple[yaml.Node, ...],
) -> None:
    """Record the line of every key below ``node``, and find keys that occur twice."""
    if any(node is parent for parent in above):
        where = f"{file.shown}:{node.start_mark.line + 1}"
        fix = "write the value out instead of the alias"
        file.findings.append(Finding(path, "the alias contains itself", "a tree", fix, where=where))
        return
    for key, value, line in _children(loader, node):
        below = (*path, key)
        if below in file.lines:
            problem = f"the key occurs twice, first in line {file.lines[below]}"
            where = f"{file.shown}:{line}"
            file.findings.append(
                Finding(below, problem, "every key once", "remove one of the two", where=where)
            )
            continue
        file.lines[below] = line
        _walk(loader, value, below, file, (*above, node))


def _children(loader: yaml.Loader, node: yaml.Node) -> list[tuple[Any, yaml.Node, int]]:
    """Return (key or index, value, line) of the direct children of a node, ``<<`` resolved."""
    if isinstance(node, yaml.SequenceNode):
        return [(at, value, value.start_mark.line + 1) for at, value in enumerate(node.value)]
    own: list[tuple[Any, yaml.Node, int]] = []
    inherited: list[tuple[Any, yaml.Node, int]] = []
    for key_node, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if key_node.tag == "tag:yaml.org,2002:merge":
            bases = value.value if isinstance(value, yaml.SequenceNode) else [value]
            inherited += [child for base in bases for child in _children(loader, base)]
        elif isinstance(key_node, yaml.ScalarNode):
            own.append((loader.construct_object(key_node), value, key_node.start_mark.line + 1))
    seen = {key for key, _, _ in own}
    for child in inherited:
        if child[0] not in seen:
            seen.add(child[0])
            own.append(child)
    return own


def merged(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge config files as Snakemake does: mappings key by key, anything else is replaced."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            if isinstance(value, Mapping):
                below = result.get(key)
                value = merged([below if isinstance(below, Mapping) else {}, value])
            result[key] = value
    return result


def located(finding: Finding, data: Any, files: Iterable[ConfigFile]) -> Finding:
    """Add the file and line to a finding; ``data`` is the merged content of the files."""
    if finding.where:
        return finding
    files = list(files)
    for length in range(len(finding.path), 0, -1):
        path = finding.path[:length]
        if file := origin(path, data, files):
            return replace(finding, where=f"{file.shown}:{file.lines[path]}")
        if value_at(data, path) is not ABSENT and files:
            return replace(finding, where=COMMAND_LINE)
    return replace(finding, where=files[-1].shown if files else "")


def origin(path: KeyPath, data: Any, files: Sequence[ConfigFile]) -> ConfigFile | None:
    """Return the file that gives the value at a key path; None: no file does."""
    value = value_at(data, path)
    for file in reversed(files):
        if path in file.lines and _same(value_at(file.data, path), value):
            return file
    return None


def value_at(data: Any, path: KeyPath) -> Any:
    """Return the value at a key path, or ``ABSENT``."""
    for key in path:
        has_key = isinstance(data, Mapping) and key in data
        has_item = isinstance(data, list) and isinstance(key, int) and key < len(data)
        if not (has_key or has_item):
            return ABSENT
        data = data[key]
    return data


def _same(one: Any, other: Any) -> bool:
    # A mapping may be merged from several files; the newest with this key is named.
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return True
    return type(one) is type(other) and (one == other or one != one)
