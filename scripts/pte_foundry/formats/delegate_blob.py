"""The container of a Core ML delegate's data: a folder flattened into one byte string.

Format (executorch 1.4, ``backends/apple/coreml/runtime/inmemoryfs``; ``flatten_directory_contents``
writes it): the contents of all files one after another, then a JSON object *with its bytes in
reverse order*, so that a reader finds it from the end. Its ``nodes`` are files (kind 0, with the
region of their contents) and folders (kind 1, with their children by name as indices of nodes);
the last node is the root. Bytes between the contents and the JSON are padding.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pte_foundry.canonical_json import canonical
from pte_foundry.errors import ProgramError

ROOT = "lowered_module"
"""The name that upstream gives to the folder."""

_FILE, _FOLDER = 0, 1
_MAX_METADATA_BYTES = 1 << 22
_MAX_DEPTH = 32


@dataclass(frozen=True)
class Blob:
    """A flattened folder.

    Attributes:
        root: its name.
        files: contents by path relative to it, with "/" between the parts.
    """

    root: str
    files: Mapping[str, memoryview]


def read_blob(data: bytes | memoryview) -> Blob:
    """Unpack a delegate blob in memory; contents are views into ``data``.

    Raises ProgramError if the blob is malformed, a path would leave the folder, a file is outside
    of the data, or files overlap so that together they are larger than the data.
    """
    view = memoryview(data).toreadonly()
    metadata = _metadata(view)
    contents = view[: len(view) - len(metadata)]
    try:
        nodes = json.loads(metadata)["nodes"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ProgramError(f"the index of a Core ML blob is malformed: {error}") from error
    if not isinstance(nodes, list) or not nodes or not isinstance(nodes[-1], dict):
        raise ProgramError("the index of a Core ML blob lists no nodes")
    reader = _Reader(nodes, contents)
    root = _name(nodes[-1].get("name"))
    reader.visit(len(nodes) - 1, "", 0)
    return Blob(root, reader.files)


def write_blob(files: Mapping[str, bytes | memoryview], root: str = ROOT) -> bytes:
    """Flatten files by relative path, as upstream does, but in sorted order.

    Raises ProgramError if a path would leave the folder, or is both a file and a folder.
    """
    tree: dict[str, Any] = {}
    for path in sorted(files):
        *folders, name = [_name(part) for part in path.split("/")]
        place = tree
        for folder in folders:
            place = place.setdefault(folder, {})
            if not isinstance(place, dict):
                raise ProgramError(f"{path!r} is in a folder that is also a file")
        if name in place:
            raise ProgramError(f"{path!r} is both a file and a folder")
        place[name] = files[path]

    nodes: list[dict[str, Any]] = []
    contents: list[bytes | memoryview] = []
    offset = 0

    def add(name: str, entry: Any) -> int:
        nonlocal offset
        region, children = {"offset": 0, "size": 0}, {}
        if isinstance(entry, dict):
            children = {child: add(child, entry[child]) for child in sorted(entry)}
        else:
            region = {"offset": offset, "size": len(entry)}
            contents.append(entry)
            offset += len(entry)
        kind = _FOLDER if isinstance(entry, dict) else _FILE
        nodes.append({"children": children, "dataRegion": region, "kind": kind, "name": name})
        return len(nodes) - 1

    add(_name(root), tree)
    metadata = canonical({"nodes": nodes})
    return b"".join([*contents, metadata.encode()[::-1]])


def write_files(files: Mapping[str, bytes | memoryview], folder: Path) -> None:
    """Write a blob's files into ``folder``, creating it.

    Raises ProgramError if a path would leave the folder.
    """
    for path, contents in files.items():
        target = folder.joinpath(*[_name(part) for part in path.split("/")])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(contents)


def _metadata(view: memoryview) -> bytes:
    """The JSON at the end, with its bytes in order again: up to the brace that closes the first."""
    tail = bytes(view[-_MAX_METADATA_BYTES:])[::-1]
    depth, quoted, escaped = 0, False, False
    for position, byte in enumerate(tail):
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = byte == 0x5C, byte != 0x22
        elif byte == 0x22:
            quoted = True
        elif byte == 0x7B:
            depth += 1
        elif byte == 0x7D:
            depth -= 1
            if depth == 0:
                return tail[: position + 1]
        if depth == 0:
            break
    raise ProgramError("a Core ML blob does not end with its index")


def _name(name: object) -> str:
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0:"):
        raise ProgramError(f"{name!r} is not a safe name for a file in a Core ML blob")
    return name


class _Reader:
    def __init__(self, nodes: list[Any], contents: memoryview) -> None:
        self.nodes = nodes
        self.contents = contents
        self.files: dict[str, memoryview] = {}
        self._seen: set[int] = set()
        self._bytes = 0

    def visit(self, index: object, path: str, depth: int) -> None:
        if type(index) is not int or not 0 <= index < len(self.nodes) or index in self._seen:
            raise ProgramError(
                f"{path or 'the root'!r} of a Core ML blob has no node, or shares it"
            )
        if depth > _MAX_DEPTH:
            raise ProgramError(f"a Core ML blob is nested deeper than {_MAX_DEPTH} folders")
        self._seen.add(index)
        node = self.nodes[index]
        if not isinstance(node, dict):
            raise ProgramError(f"node {index} of a Core ML blob is malformed")
        if node.get("kind") == _FILE and path:
            self.files[path] = self._contents(node, path)
            return
        children = node.get("children")
        if node.get("kind") != _FOLDER or not isinstance(children, dict):
            raise ProgramError(f"node {index} of a Core ML blob is neither a file nor a folder")
        for name, child in sorted(children.items()):
            self.visit(child, f"{path}/{_name(name)}" if path else _name(name), depth + 1)

    def _contents(self, node: dict[str, Any], path: str) -> memoryview:
        region = node.get("dataRegion")
        region = region if isinstance(region, dict) else {}
        offset, size = region.get("offset"), region.get("size")
        if type(offset) is not int or type(size) is not int or min(offset, size) < 0:
            raise ProgramError(f"{path!r} in a Core ML blob has no region")
        self._bytes += size
        if max(offset + size, self._bytes) > len(self.contents):
            raise ProgramError(f"{path!r} in a Core ML blob exceeds its {len(self.contents)} bytes")
        return self.contents[offset : offset + size]
