"""Where lines go in the text of a YAML file, so that all else stays as it is."""

from __future__ import annotations

from collections.abc import Iterable

import yaml


def newline_of(text: str) -> str:
    """Returns what the lines of a file end with."""
    return "\r\n" if "\r\n" in text else "\n"


def line_end(text: str, index: int) -> int:
    """Returns the index of the next line's first character."""
    end = text.find("\n", index)
    return len(text) if end < 0 else end + 1


def end_of(node: yaml.Node | tuple[yaml.Node, yaml.Node]) -> int:
    """Returns the index after the last character of a node, or of a key and its value."""
    if isinstance(node, tuple):
        # An empty value has no place of its own.
        return max(end_of(node[0]), end_of(node[1]))
    if isinstance(node, yaml.ScalarNode) or node.flow_style or not node.value:
        # A block scalar ends with its last newline, which is no part of the next line.
        return node.end_mark.index - (getattr(node, "style", None) in ("|", ">"))
    # The mark of a block is where the next one begins.
    return end_of(node.value[-1])


def indented(text: str, lines: Iterable[str], column: int) -> str:
    """Returns lines that begin at a column and end as those of ``text``."""
    return "".join(f"{' ' * column}{line}{newline_of(text)}" for line in lines)


def with_lines(text: str, at: int, lines: Iterable[str], column: int) -> str:
    """Returns a file with more lines.

    Args:
        text: the file.
        at: the index of the first character of a line, or the end of the file.
        lines: the lines.
        column: where they begin.
    """
    gap = "" if text[:at].endswith("\n") else newline_of(text)
    return f"{text[:at]}{gap}{indented(text, lines, column)}{text[at:]}"


def into_brackets(text: str, node: yaml.CollectionNode, flow: str) -> str:
    """Returns a file with one more item in brackets or braces, after the last one."""
    if node.value:
        at = end_of(node.value[-1])
        return f"{text[:at]}, {flow}{text[at:]}"
    at = node.start_mark.index + 1
    return f"{text[:at]}{flow}{text[at:]}"
