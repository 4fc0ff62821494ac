"""Reads and writes whole ``.pte`` files with executorch's own code.

Stands against: executorch 1.5.1
Uses: ``deserialize_pte_binary``, ``serialize_pte_binary`` and ``PTEFile``
    (``exir/_serialize/_program.py``) and ``NamedDataStore``
    (``exir/_serialize/_named_data_store.py``), with which upstream's emitter and tools write and
    read a ``.pte``.
Remove when: they have public names.

Importing this takes five seconds, so import it where it is used.
"""

from collections.abc import Mapping

from executorch.exir._serialize._named_data_store import NamedDataStore, NamedDataStoreOutput
from executorch.exir._serialize._program import (
    PTEFile,
    deserialize_pte_binary,
    serialize_pte_binary,
)

from pte_foundry.upstream.versions import require

__all__ = ["PTEFile", "named_data", "read", "write"]

require(NamedDataStore, "get_named_data_store_output", "self", patch=__name__)


def read(pte: bytes) -> PTEFile:
    """Parse a ``.pte``. It must be trusted or checked: upstream's reader checks little."""
    return deserialize_pte_binary(pte)


def write(parsed: PTEFile, delegate_segments: bool) -> bytes:
    """Serialize a program.

    Args:
        parsed: what :func:`read` returned, possibly changed.
        delegate_segments: whether delegates' data goes into segments after the flatbuffer.
    """
    return bytes(serialize_pte_binary(parsed, extract_delegate_segments=delegate_segments))


def named_data(entries: Mapping[str, tuple[bytes, int]]) -> NamedDataStoreOutput:
    """Return the ``named_data`` of a program, in the order of the keys.

    Args:
        entries: by key, the data and its alignment in bytes.
    """
    store = NamedDataStore()
    for key, (data, alignment) in sorted(entries.items()):
        store.add_named_data(key, data, alignment)
    return store.get_named_data_store_output()
