"""Inserts an entry into a section of a config file, and leaves all else as it is."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from pte_foundry.config.yamltext import (
    end_of,
    indented,
    into_brackets,
    line_end,
    newline_of,
    with_lines,
)
from pte_foundry.errors import ConfigError


@dataclass(frozen=True)
class Entry:
    """An entry of a section.

    Attributes:
        value: its keys and values.
        comments: of its keys.
        above: a comment above its keys.
        below: lines of comment below them.
    """

    value: Mapping[str, Any]
    comments: Mapping[str, str] = field(default_factory=dict)
    above: str = ""
    below: Sequence[str] = ()

    def block(self, name: str) -> list[str]:
        """Returns the lines of an entry of a mapping."""
        lines = [f"  # {self.above}"] if self.above else []
        for key, value in self.value.items():
            comment = self.comments.get(key)
            lines.append(f"  {_flow(key)}: {_flow(value)}{f'  # {comment}' if comment else ''}")
        return [f"{_flow(name)}:", *lines, *(f"  # {line}" for line in self.below)]

    def item(self) -> list[str]:
        """Returns the lines of an entry of a list, which has no comments."""
        return [f"- {_flow(dict(self.value))}"]


def inserted(text: str, section: str, name: str | None, entry: Entry) -> str:
    """Returns a config file with one more entry, at the end of a section.

    Args:
        text: the file.
        section: its key; it is added if it is missing.
        name: the key of the entry; None: the section is a list.
        entry: the entry.

    Raises:
        ConfigError: the file is not YAML, or the section is one that cannot be extended in place,
            such as an alias.
    """
    wanted = _expected(read(text), section, name, entry)
    with_json = _is_json(text)
    lines = entry.item() if name is None else entry.block(name)
    value = dict(entry.value)
    flow = _flow(value, with_json)
    if name is not None:
        flow = f"{_flow(name, with_json)}: {flow}"
    made = _Place(text).put(section, lines, flow, name is None, with_json)
    try:
        same = made is not None and read(made) == wanted
    except ConfigError:
        same = False
    if not same:
        shown = "\n".join(f"  {line}" for line in lines)
        raise ConfigError(
            f"`{section}:` is written in a way that nothing can be inserted into, such as an "
            f"alias; add this to it:\n{shown}"
        )
    return made


def read(text: str) -> Any:
    """Returns the content of a config file. Raises ConfigError if it is not YAML."""
    try:
        return yaml.full_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"it is not YAML: {error}") from error


def _expected(data: Any, section: str, name: str | None, entry: Entry) -> Any:
    data = {} if data is None else copy.deepcopy(data)
    if not isinstance(data, dict):
        raise ConfigError("it is not a config: expected a mapping of sections")
    below = data.get(section)
    empty: Any = [] if name is None else {}
    below = empty if below is None else below
    if type(below) is not type(empty):
        kind = "a list" if name is None else "a mapping"
        raise ConfigError(f"`{section}:` is not {kind}; correct it first")
    if name is None:
        below.append(dict(entry.value))
    else:
        below[name] = dict(entry.value)
    return data | {section: below}


def _is_json(text: str) -> bool:
    try:
        json.loads(text.lstrip("\ufeff"))
    except ValueError:
        return False
    return True


def _flow(value: Any, as_json: bool = False) -> str:
    if as_json:
        return json.dumps(value, ensure_ascii=False)
    made = yaml.safe_dump(
        value, default_flow_style=True, sort_keys=False, width=float("inf"), allow_unicode=True
    )
    return re.sub(r"\n(\.\.\.\n)?$", "", made)


class _Place:
    """A config file, into which lines are put."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.root = yaml.compose(text, yaml.FullLoader)

    def put(
        self, section: str, lines: Sequence[str], flow: str, is_list: bool, as_json: bool
    ) -> str | None:
        """Returns the file with an entry in a section; None: that is not possible."""
        if self.root is None:
            return self._appended(section, lines, 0)
        if not isinstance(self.root, yaml.MappingNode):
            return None  # null, written out
        found = [(k, v) for k, v in self.root.value if k.value == section]
        if not found:
            if self.root.flow_style:
                brackets = "[]" if is_list else "{}"
                whole = f"{_flow(section, as_json)}: {brackets[0]}{flow}{brackets[1]}"
                return into_brackets(self.text, self.root, whole)
            return self._appended(section, lines, self.root.start_mark.column)
        key, node = found[-1]
        if node.start_mark.index < key.end_mark.index:
            return None  # an alias
        if isinstance(node, yaml.ScalarNode):  # nothing yet
            column = key.start_mark.column + 2
            return self._after_line(key.end_mark.index, lines, column)
        if node.flow_style:
            return into_brackets(self.text, node, flow)
        if not node.value:
            return None
        first = node.value[0]
        column = node.start_mark.column if is_list else first[0].start_mark.column
        return self._after_line(end_of(node), lines, column)

    def _appended(self, section: str, lines: Sequence[str], column: int) -> str:
        """A new section at the end."""
        text, newline = self.text, newline_of(self.text)
        gap = "" if not text or text.endswith("\n") else newline
        gap += newline if text.strip() else ""
        return text + gap + indented(text, [f"{section}:", *(f"  {x}" for x in lines)], column)

    def _after_line(self, index: int, lines: Sequence[str], column: int) -> str:
        """Below the line of an index, and below the comments that belong to it."""
        at = line_end(self.text, index)
        following = at
        while following < len(self.text):
            end = line_end(self.text, following)
            line = self.text[following:end]
            indentation = len(line) - len(line.lstrip(" "))
            if line.strip() and not (line.lstrip().startswith("#") and indentation >= column > 0):
                break
            following = end
            at = end if line.strip() else at
        return with_lines(self.text, at, lines, column)


def with_extends(text: str, base: str, comment: str) -> str:
    """Returns a config file with the key ``extends``, before all others."""
    root = yaml.compose(text, yaml.FullLoader)
    if root.flow_style:
        at = root.start_mark.index + 1
        return f'{text[:at]}"extends": {json.dumps(base)}, {text[at:]}'
    at, column = root.start_mark.index, root.start_mark.column
    return f"{text[:at]}extends: {base}  # {comment}{newline_of(text)}{' ' * column}{text[at:]}"
