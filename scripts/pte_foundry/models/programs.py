"""Exported programs (``torch.export``) on disk, as reproducible and checksummed .pt2 files."""

import hashlib
import importlib
import io
import re
import zipfile
from collections.abc import Iterable, Mapping
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.export import ExportedProgram
from torch.fx import GraphModule

from pte_foundry.errors import DamagedError, ProgramError
from pte_foundry.files import replacing
from pte_foundry.models.archive_checks import refuse_code
from pte_foundry.models.checksums import DIGEST_SIZE
from pte_foundry.models.methods import FORWARD
from pte_foundry.models.user_code import portable_trace
from pte_foundry.upstream import torch_quantized_operators, torch_shared_weights
from pte_foundry.upstream.torch_loaded_sizes import forget_computed
from pte_foundry.upstream.torch_mkl_functions import replace_mkl_functions

# Reading a quantized program needs its operators and tensor types, which these functions register.
# torchao takes seconds to import, so a program's graph is searched for its operators' names.
REGISTERED_BY = {
    b"quantized_decomposed": torch_quantized_operators.register,
    b"torchao": partial(importlib.import_module, "torchao.quantization"),
    b"codebook": partial(importlib.import_module, "torchao.prototype.quantization.codebook_coreml"),
}


_ONLY = "model"
"""torch's name of the only program in an archive."""


def forget_history(program: ExportedProgram, root: Path | None = None) -> None:
    """Removes what would make equal programs differ: memory addresses, and paths of this machine.

    Args:
        program: the program; its graphs are changed, those of branches and loops included.
        root: the project's folder, which source files are named from.
    """
    for module in program.graph_module.modules():
        for node in module.graph.nodes if isinstance(module, GraphModule) else ():
            node.meta.pop("from_node", None)
            if trace := node.meta.get("stack_trace"):
                node.meta["stack_trace"] = portable_trace(trace, root)


def save(program: ExportedProgram, path: Path) -> None:
    """Writes a program atomically; equal programs give equal bytes, in every folder."""
    save_all({FORWARD: program}, path)


def save_all(methods: Mapping[str, ExportedProgram], path: Path) -> None:
    """Writes the programs of methods like :func:`save`; equal weights of theirs once."""
    for program in methods.values():
        forget_history(program)
    with replacing(path) as temporary, temporary.open("wb") as file:
        archive = _Archive(file)
        if methods.keys() == {FORWARD}:
            torch.export.save(methods[FORWARD], archive)
        else:
            torch_shared_weights.save(dict(methods), archive)
        archive.finish()


class _Archive(io.RawIOBase):
    """A .pt2 that torch writes piece by piece; its digest becomes the comment of the archive.

    If the disk is full, :meth:`finish` raises: an error in :meth:`write` would end the process
    (PyTorchFileWriter's destructor writes again, and a C++ destructor must not throw).
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._last = b""  # two bytes: the length of the comment, which is not known to torch
        self._error: OSError | None = None

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True  # torch warns of other files

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return 0  # torch rewinds what it has written; nobody reads it here

    def write(self, data: Any) -> int:
        """Takes the next bytes of the archive."""
        with memoryview(data).cast("B") as view:
            if len(view) < 2:
                self._put((self._last + view)[:-2])
                self._last = (self._last + view)[-2:]
            else:
                self._put(self._last)
                self._put(view[:-2])
                self._last = bytes(view[-2:])
            return len(view)

    def finish(self) -> None:
        """Writes the comment. Raises OSError if anything could not be written."""
        self._put(DIGEST_SIZE.to_bytes(2, "little"))
        if self._error:
            raise self._error
        self._file.write(self._digest.hexdigest().encode())

    def _put(self, data: bytes | memoryview) -> None:
        if self._error is None:
            self._digest.update(data)
            try:
                self._file.write(data)
            except OSError as error:
                self._error = error


def load(path: Path) -> ExportedProgram:
    """Reads a program that :func:`save` wrote, quantized or not.

    Raises:
        DamagedError: the file is missing, truncated or modified.
        ProgramError: reading the file could run code, so this project has not written it; or it has
            several programs.
    """
    programs = load_all(path)
    if len(programs) > 1:
        raise ProgramError(f"{path} has several programs: {', '.join(programs)}; expected one")
    return next(iter(programs.values()))


def load_all(path: Path) -> dict[str, ExportedProgram]:
    """Reads the programs that :func:`save_all` wrote, by method; they share equal weights.

    Raises:
        DamagedError, ProgramError: as :func:`load` does.
    """
    replace_mkl_functions()
    if path.exists() and not path.is_file():
        raise DamagedError(path, "not a regular file")  # opening a pipe would wait
    try:
        with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            end = len(content) - DIGEST_SIZE
            with memoryview(content)[:end] as archived:
                if content[end:] != hashlib.sha256(archived).hexdigest().encode():
                    raise DamagedError(path, "checksum mismatch")
            with zipfile.ZipFile(file) as archive:
                graphs = _graphs(archive)
    except (OSError, ValueError) as error:  # no file, or an empty one
        raise DamagedError(path, error) from error
    _register(graphs.values())
    refuse_code(path)
    if graphs.keys() == {_ONLY}:
        return {FORWARD: forget_computed(torch.export.load(path))}
    programs = torch_shared_weights.load(path)
    return {method: forget_computed(program) for method, program in programs.items()}


def read(path: Path) -> ExportedProgram:
    """Reads a program that somebody else wrote with ``torch.export.save``.

    Raises:
        ProgramError: reading the file could run code, or it is no exported program.
    """
    replace_mkl_functions()
    try:
        with zipfile.ZipFile(path) as archive:
            graphs = _graphs(archive)
            _register(graphs.values())
    except (OSError, zipfile.BadZipFile) as error:
        raise ProgramError(f"{path} is not an exported program: {error}") from error
    if len(graphs) > 1:
        raise ProgramError(
            f"{path} has several programs: {', '.join(graphs)}. Save each of them in a file of its "
            "own, or write a `module` with methods()."
        )
    refuse_code(path)
    return forget_computed(torch.export.load(path))


def _graphs(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """The serialized graphs of an archive, by the names of the programs, in its order."""
    names = [re.fullmatch(r"[^/]+/models/(\w+)\.json", name) for name in archive.namelist()]
    return {found[1]: archive.read(found[0]) for found in names if found}


def _register(graphs: Iterable[bytes]) -> None:
    graphs = list(graphs)
    for name, register in REGISTERED_BY.items():
        if any(name in graph for graph in graphs):
            register()
