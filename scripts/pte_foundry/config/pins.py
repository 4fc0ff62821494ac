"""Adds the SHA-256 of weights and data files to a config file, and leaves all else as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from pte_foundry.config.models import ORIGINS
from pte_foundry.config.yamltext import end_of, into_brackets, line_end, with_lines
from pte_foundry.findings import KeyPath, dotted

PIN = "sha256"
PINNED = ("file", "url")
"""Keys of sources that need a pin; a folder or a repository has none."""


@dataclass(frozen=True)
class Pin:
    """A pin that a config file lacks, or that is to be compared.

    Attributes:
        key: the key path of the source.
        source: the source, as it is in the file.
        node: its place in the file.
    """

    key: KeyPath
    source: Mapping[str, Any]
    node: yaml.MappingNode

    @property
    def name(self) -> str:
        """The source in messages: ``models.net.weights``."""
        return dotted(self.key)

    @property
    def digest(self) -> Any:
        """The pin that is there, or None."""
        return self.source.get(PIN)


def pins(text: str) -> list[Pin]:
    """Returns the sources of a config file that have a pin, or need one.

    Args:
        text: the file.

    Raises:
        yaml.YAMLError: it is not YAML.
    """
    loader = yaml.FullLoader(text)
    node = loader.get_single_node()
    models = _value(node, "models")
    return [] if models is None else list(_sources(loader, models))


def _sources(loader: yaml.Loader, models: yaml.Node) -> Iterator[Pin]:
    for name, model in _children(loader, models):
        for key, value in _children(loader, model):
            if key in ("weights", *ORIGINS):
                yield from _pin(loader, ("models", name, key), value)
            if key == "data":
                for file, source in _children(loader, value):
                    yield from _pin(loader, ("models", name, key, file), source)


def _pin(loader: yaml.Loader, key: KeyPath, node: yaml.Node) -> Iterator[Pin]:
    if isinstance(node, yaml.MappingNode):
        source = loader.construct_mapping(node, deep=True)
        if any(name in source for name in PINNED):
            yield Pin(key, source, node)


def _children(loader: yaml.Loader, node: yaml.Node) -> Iterator[tuple[Any, yaml.Node]]:
    for key, value in node.value if isinstance(node, yaml.MappingNode) else ():
        if isinstance(key, yaml.ScalarNode):
            yield loader.construct_object(key), value


def _value(node: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else ()
    return next((value for key, value in pairs if key.value == name), None)


def pinned(text: str, digest_of: Callable[[Pin], str], found: list[Pin]) -> str:
    """Returns a config file with the digests of sources.

    Args:
        text: the file.
        digest_of: returns the digest of a source.
        found: the sources to pin, of :func:`pins`; a pin that is there is replaced.
    """
    # From the end, so that the places of those before it stay right.
    for pin in sorted(found, key=lambda pin: -pin.node.start_mark.index):
        text = _written(text, pin.node, digest_of(pin))
    return text


def _written(text: str, node: yaml.MappingNode, digest: str) -> str:
    for key, value in node.value:
        if key.value == PIN:
            start, end = value.start_mark.index, value.end_mark.index
            gap = "" if text[:start].endswith((" ", "\n")) else " "
            return text[:start] + gap + digest + text[end:]
    last = node.value[-1]
    pin = f"{PIN}: {digest}"
    if node.flow_style:
        return into_brackets(text, node, pin)
    # After the last line of the mapping, with its comment.
    return with_lines(text, line_end(text, end_of(last)), [pin], last[0].start_mark.column)
