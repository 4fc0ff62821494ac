"""Protects the flattened folder: upstream reads ours, we read upstream's, damage is found."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pte_foundry.errors import ProgramError
from pte_foundry.formats.delegate_blob import read_blob, write_blob, write_files

FILES = {
    "metadata.json": b'{"a": "}{"}',
    "empty": b"",
    "deep/er/weight.bin": bytes(range(256)) * 40,
    "deep/model.mlmodel": b"}]}" * 7,
    'deep/\u00e9 "x"': b"\0",
}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_upstream_unpacks_ours(tmp_path: Path):
    from executorch.backends.apple.coreml import executorchcoreml

    assert executorchcoreml.unflatten_directory_contents(write_blob(FILES), str(tmp_path))
    assert contents(tmp_path / "lowered_module") == FILES


def test_we_unpack_upstreams(tmp_path: Path):
    from executorch.backends.apple.coreml import executorchcoreml

    # executorch 1.4.1 crashes on an empty file, so upstream's form of one is not known.
    full = {path: data for path, data in FILES.items() if data}
    write_files(full, tmp_path / "lowered_module")
    theirs = executorchcoreml.flatten_directory_contents(str(tmp_path / "lowered_module"))
    assert read_blob(theirs).root == "lowered_module"
    assert {path: bytes(data) for path, data in read_blob(theirs).files.items()} == full


def test_order_of_files_does_not_matter():
    assert write_blob(FILES) == write_blob(dict(reversed(FILES.items())))


@pytest.mark.parametrize(
    "files",
    [{"../x": b""}, {"/x": b""}, {"a//b": b""}, {"a\\b": b""}, {"a": b"", "a/b": b""}, {".": b""}],
)
def test_unsafe_paths_are_not_written(files):
    with pytest.raises(ProgramError):
        write_blob(files)


def node(name="x", kind=0, offset=0, size=0, **children):
    return {
        "name": name,
        "kind": kind,
        "dataRegion": {"offset": offset, "size": size},
        "children": children,
    }


@pytest.mark.parametrize(
    "nodes",
    [
        [],
        {},
        [1],
        [node("root", 1, x=0)],  # its own child
        [node("root", 1, x=7)],
        [node("root", 1, x=-1)],
        [node(), node("root", 1, x=0, y=0)],  # one file, two names
        [node(), node("root", 1, **{"..": 0})],
        [node(), node("root", 1, **{"a/b": 0})],
        [node(), node("..", 1, x=0)],
        [node(size=9), node("root", 1, x=0)],
        [node(offset=-1, size=1), node("root", 1, x=0)],
        [node(offset=4, size=1 << 70), node("root", 1, x=0)],
        [node(size=8), node(size=8), node("root", 1, x=0, y=1)],  # overlap: more out than in
        [node(kind=2), node("root", 1, x=0)],
        [node("root", 0)],
        [node(size=True), node("root", 1, x=0)],
    ],
)
def test_contradictory_indices_are_refused(nodes):
    with pytest.raises(ProgramError):
        read_blob(b"contents" + json.dumps({"nodes": nodes}).encode()[::-1])


def test_nesting_is_limited():
    nodes = [node()]
    for index in range(100):
        nodes.append(node("d", 1, x=index))
    with pytest.raises(ProgramError, match="nested"):
        read_blob(json.dumps({"nodes": nodes}).encode()[::-1])
    for garbage in (b"", b"}", b"{" * 1000, b"}" * 1000, b'"' * 1000, b"{}"[::-1]):
        with pytest.raises(ProgramError):
            read_blob(garbage)


EDITS = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4)


def check_damaged(edits, in_index, cut):
    damaged = bytearray(write_blob(FILES))
    start = len(damaged) - 900 if in_index else 0
    for place, byte in edits:
        damaged[start + place % (len(damaged) - start)] = byte
    try:
        blob = read_blob(bytes(damaged[: len(damaged) - cut]))
    except ProgramError:
        return
    assert sum(map(len, blob.files.values())) <= len(damaged)
    assert not any(".." in path.split("/") or path.startswith("/") for path in blob.files)


damaged = given(edits=EDITS, in_index=st.booleans(), cut=st.integers(0, 3))


@settings(max_examples=400, derandomize=True, deadline=None)
@damaged
def test_damaged_blobs_give_only_our_errors(edits, in_index, cut):
    check_damaged(edits, in_index, cut)


@pytest.mark.slow
@settings(max_examples=5000, derandomize=True, deadline=None)
@damaged
def test_many_damaged_blobs_give_only_our_errors(edits, in_index, cut):
    check_damaged(edits, in_index, cut)
