"""The canonical form of a ``.pte``: programs that compute the same are byte-identical.

Two lowerings of one program differ in random identifiers, a date, and the order of map entries
and files (executorch 1.5, coremltools 9.0). :func:`canonical` removes these from one Core ML blob,
:func:`canonical_pte` from a whole program. It also sets the compute units: upstream converts the
model again to change them, although they are only a compile spec of the delegate.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Any

from pte_foundry import canonical_json
from pte_foundry.errors import ProgramError
from pte_foundry.formats import coreml_delegate as coreml
from pte_foundry.formats import pte_schema
from pte_foundry.formats.delegate_blob import read_blob, write_blob
from pte_foundry.formats.mlpackage import parse_model
from pte_foundry.formats.pte_file import read_pte
from pte_foundry.upstream.versions import without_label

if TYPE_CHECKING:
    from executorch.exir.schema import BackendDelegate

    from pte_foundry.upstream.executorch_pte_format import PTEFile

_DATE = "com.github.apple.coremltools.conversion_date"
_SOURCE = "com.github.apple.coremltools.source"
_BUILD_INFO, _TORCH = "buildInfo", "coremltools-component-torch"
_SPEC = "compute_units"
# Files that do not affect what Core ML compiles: names for people, and the wrapping.
_NOT_CONTENT = frozenset({coreml.METADATA, coreml.DEBUG_INFO, coreml.HANDLES, coreml.MANIFEST})


def canonical(blob: bytes | memoryview) -> bytes:
    """The canonical form of a Core ML delegate blob. Idempotent.

    The conversion date is removed; the versions of the tools stay, without the label of torch's
    build: the CPU build and the CUDA build of one version give the same program. ``identifier`` in
    ``metadata.json`` is the key of Core ML's compile cache on the device, so it becomes a digest of
    exactly what is compiled and how it is called: the model, the weights, the names of inputs and
    outputs. It excludes debugging information, so that renaming a module does not cause another
    compilation. A compiled model (``mlmodelc``) stays as Apple's compiler wrote it.

    Args:
        blob: as executorch flattens it (:mod:`pte_foundry.formats.delegate_blob`).

    Raises ProgramError if the blob is malformed.
    """
    unpacked = read_blob(blob)
    model = coreml.CoreMLModel(unpacked.files)
    files: dict[str, bytes | memoryview] = dict(unpacked.files)
    if not model.compiled:
        files[coreml.MODEL] = _canonical_model(model)
    for path in (coreml.DEBUG_INFO, coreml.HANDLES):
        if path in files:
            files[path] = _json(coreml.parse_json(files[path], path))

    metadata = {key: value for key, value in model.metadata.items() if key != "identifier"}
    digest = hashlib.sha256(_json(metadata))
    for path in sorted(set(files) - _NOT_CONTENT):
        digest.update(path.encode() + b"\0" + hashlib.sha256(files[path]).digest())
    content = digest.digest()
    metadata["identifier"] = f"executorch_{_uuid(content)}"
    files[coreml.METADATA] = _json(metadata)
    if coreml.MANIFEST in files:
        files[coreml.MANIFEST] = _canonical_manifest(files[coreml.MANIFEST], content)
    return write_blob(files, unpacked.root)


def canonical_pte(pte: bytes, compute_units: str) -> bytes:
    """The canonical form of a ``.pte`` for these compute units. Idempotent.

    Everything else in the program stays, delegates of other backends included.

    Args:
        pte: a program as executorch writes it.
        compute_units: one of :data:`pte_foundry.formats.coreml_delegate.COMPUTE_UNITS`.

    Raises ProgramError if the program is malformed or the compute units are unknown.
    """
    if compute_units not in coreml.COMPUTE_UNITS:
        allowed = ", ".join(coreml.COMPUTE_UNITS)
        raise ProgramError(f"compute units {compute_units!r} are unknown; allowed are {allowed}")
    checked = read_pte(pte)  # upstream's reader, called below, checks nothing
    in_segments = any(
        delegate.processed.location == pte_schema.SEGMENT
        for plan in checked.program.execution_plan
        for delegate in plan.delegates
    )

    from pte_foundry.upstream import executorch_pte_format  # takes five seconds

    parsed = executorch_pte_format.read(pte)
    del pte, checked  # a copy of all weights
    keys = _canonicalise_shared(parsed)
    done: set[int] = set()
    for plan in parsed.program.execution_plan:
        for delegate in plan.delegates:
            if delegate.id != coreml.BACKEND:
                continue
            _set_compute_units(delegate, compute_units)
            if delegate.processed.index not in done:
                done.add(delegate.processed.index)
                held = parsed.program.backend_delegate_data[delegate.processed.index]
                held.data = _canonical_data(held.data, keys)
    return executorch_pte_format.write(parsed, in_segments)


def _canonical_data(data: bytes, keys: dict[str, str]) -> bytes:
    reference = coreml.read_reference(memoryview(data))
    if reference is None:
        return canonical(data)
    if reference.key not in keys:
        raise ProgramError(f"shared Core ML model {reference.key!r} is not in the program")
    return coreml.Reference(keys[reference.key], reference.function).to_bytes()


def _canonicalise_shared(parsed: PTEFile) -> dict[str, str]:
    """Rewrite the blobs in the named data; return the map from old to new keys."""
    if parsed.named_data is None:
        return {}
    from pte_foundry.upstream.executorch_pte_format import named_data

    entries: dict[str, tuple[bytes, int]] = {}
    keys: dict[str, str] = {}
    for key, entry in parsed.named_data.pte_data.items():
        data, new = parsed.named_data.buffers[entry.buffer_index], key
        if key.startswith(f"{coreml.NAMED_PREFIX}executorch_"):
            data = canonical(data)
            metadata = coreml.CoreMLModel(read_blob(data).files).metadata
            new = keys[key] = f"{coreml.NAMED_PREFIX}{metadata['identifier']}"
        entries[new] = (data, entry.alignment)
    parsed.named_data = named_data(entries)
    return keys


def _set_compute_units(delegate: BackendDelegate, compute_units: str) -> None:
    from executorch.exir.backend.compile_spec_schema import CompileSpec

    wanted = CompileSpec(_SPEC, compute_units.encode())
    specs = [wanted if spec.key == _SPEC else spec for spec in delegate.compile_specs]
    delegate.compile_specs = specs if wanted in specs else [*specs, wanted]


def _canonical_model(model: coreml.CoreMLModel) -> bytes:
    spec = parse_model(model.model)
    described = spec.description.metadata.userDefined
    described.pop(_DATE, None)
    if _SOURCE in described:
        described[_SOURCE] = without_label(described[_SOURCE])
    attributes = spec.mlProgram.attributes if spec.HasField("mlProgram") else {}
    if _BUILD_INFO in attributes:
        for entry in attributes[_BUILD_INFO].immediateValue.dictionary.values:
            if list(entry.key.immediateValue.tensor.strings.values) == [_TORCH]:
                version = entry.value.immediateValue.tensor.strings.values
                version[:] = [without_label(text) for text in version]
    return spec.SerializeToString(deterministic=True)


def _canonical_manifest(manifest: bytes | memoryview, content: bytes) -> bytes:
    """``Manifest.json`` with its items' random identifiers made from content and path."""
    fields = coreml.parse_json(manifest, coreml.MANIFEST)
    items, root = fields.get("itemInfoEntries"), fields.get("rootModelIdentifier")
    if not isinstance(items, dict) or not all(isinstance(item, dict) for item in items.values()):
        raise ProgramError(f"{coreml.MANIFEST} has no itemInfoEntries that map to objects")
    names = {old: _uuid(content + str(item.get("path")).encode()) for old, item in items.items()}
    if root not in names or len(set(names.values())) != len(names):
        raise ProgramError(
            f"{coreml.MANIFEST} is inconsistent: two items have the same path, or the root is none"
        )
    renamed: dict[str, Any] = {names[old]: item for old, item in items.items()}
    return _json({**fields, "itemInfoEntries": renamed, "rootModelIdentifier": names[root]})


def _json(value: object) -> bytes:
    try:
        return canonical_json.canonical(value).encode()
    except (ValueError, RecursionError) as error:  # nan, inf
        raise ProgramError(f"a Core ML blob has JSON without a canonical form: {error}") from error


def _uuid(content: bytes) -> str:
    """128 bits of a digest, in the form of upstream's random identifiers."""
    return str(uuid.UUID(bytes=hashlib.sha256(content).digest()[:16], version=5))
