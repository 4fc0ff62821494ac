"""Tensors on disk: trained weights, and samples with their outputs, as checksummed safetensors."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from pte_foundry.errors import DamagedError
from pte_foundry.files import replacing
from pte_foundry.models.checksums import check_tensors

Sample = tuple[torch.Tensor, ...]
"""The inputs of one call of a model, or its outputs."""


def save_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes safetensors with a ``checksum`` (names, dtypes, shapes, values) in the metadata.

    Tensors that share memory (tied weights, views) are written once each: the format has no aliases
    and refuses them. Whoever reads them gets equal values, and ties them again or not.
    """
    save_file(_separate(tensors), path, {"checksum": _checksum(tensors)})


def _separate(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns contiguous tensors of which no two share memory; copies only those that need it."""
    found: dict[str, torch.Tensor] = {}
    taken: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().contiguous()
        storage = own.untyped_storage()
        if storage.data_ptr() in taken or storage.nbytes() != own.nbytes:
            own = own.clone(memory_format=torch.contiguous_format)
        taken.add(own.untyped_storage().data_ptr())
        found[name] = own
    return found


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Reads a file that :func:`save_tensors` wrote.

    Raises:
        DamagedError: the file is missing, truncated or modified.
    """
    try:
        with safe_open(path, "pt") as file:
            # safe_open has keys(), but is not a mapping.
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            checksum = (file.metadata() or {}).get("checksum")
    except (SafetensorError, OSError) as error:
        raise DamagedError(path, error) from error
    if checksum != _checksum(tensors):
        raise DamagedError(path, "checksum mismatch")
    return tensors


def distinct(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Returns tensors without those that are the same values in memory as an earlier one."""
    found: dict[tuple, tuple[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        key = (tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else (name,)
        found.setdefault((*key, tensor.dtype), (name, tensor))
    return dict(found.values())


def copy_tensors(path: Path, into: Mapping[str, torch.Tensor]) -> None:
    """Copies the tensors of a file that :func:`save_tensors` wrote, which is never in memory whole.

    Raises:
        DamagedError: the file is missing, truncated or modified, or has other tensors.
    """
    check_tensors(path)
    with safe_open(path, "pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    if found != {name: list(tensor.shape) for name, tensor in into.items()}:
        raise DamagedError(path, "it has the tensors of another model")
    for name, tensor in into.items():
        # What has been read of a file counts as memory of the process until it is closed.
        with safe_open(path, "pt") as file:
            tensor.copy_(file.get_tensor(name))


def _checksum(tensors: Mapping[str, torch.Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


class Call(NamedTuple):
    """A recorded call of a method (``models.play``): number of the sample, method, flat tensors."""

    sample: int
    method: str
    inputs: Sample
    outputs: Sample


def calls_of(method: str, calls: Iterable[Call]) -> list[Call]:
    """Returns the calls of a method, in order."""
    return [call for call in calls if call.method == method]


@dataclass(frozen=True)
class Samples:
    """The samples of a run.

    Attributes:
        inputs: for each sample its inputs; may be empty if they are in another file.
        outputs: for each sample its outputs.
        labels: one row for each sample, or None.
        input_names: of the inputs; empty if they are not known.
        output_names: of the outputs; empty if they have none.
        weights: what a quantized program has compressed (``quantize.coverage``); None: unknown.
        structures: of conversations (``models.play``), for each sample that of its inputs.
        calls: recorded calls; without inputs if they are in another file.
        methods: of a model with conversations, by method the names of its inputs and outputs.
    """

    inputs: list[Sample]
    outputs: list[Sample]
    labels: torch.Tensor | None
    input_names: list[str] = field(default_factory=list)
    output_names: list[str] = field(default_factory=list)
    structures: list[Any] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    methods: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    weights: dict[str, Any] | None = None

    def inputs_of(self, method: str) -> list[Sample]:
        """Returns the inputs of a method that the samples have: of conversations the recorded ones.

        Empty if none of its calls is recorded. The inputs of conversations are those of no method.
        """
        if not self.methods:
            return self.inputs
        return [call.inputs for call in calls_of(method, self.calls) if call.inputs]

    def save(self, path: Path) -> None:
        """Writes one safetensors file with the keys ``input.<sample>.<position>`` and so on."""
        names: list[Any] = [self.input_names, self.output_names]
        if self.methods:
            names += [self.structures, [call[:2] for call in self.calls], self.methods]
        tensors = {"names": _encoded(names)}
        tensors |= {} if self.labels is None else {"labels": self.labels}
        kinds = {
            "input": self.inputs,
            "output": self.outputs,
            "given": [call.inputs for call in self.calls],
            "gave": [call.outputs for call in self.calls],
        }
        for kind, samples in kinds.items():
            for index, sample in enumerate(samples):
                for position, tensor in enumerate(sample):
                    # A clone, because safetensors refuses tensors that share memory.
                    tensors[f"{kind}.{index}.{position}"] = tensor.detach().contiguous().clone()
        if self.weights is not None:
            tensors["weights"] = _encoded(self.weights)
        with replacing(path) as temporary:
            save_tensors(tensors, temporary)

    @classmethod
    def load(cls, path: Path) -> "Samples":
        """Reads what :meth:`save` wrote. Raises DamagedError."""
        tensors = load_tensors(path)
        weights = tensors.pop("weights", None)
        labels = tensors.pop("labels", None)
        names = _decoded(tensors.pop("names"))
        found: dict[str, dict[int, dict[int, torch.Tensor]]] = {}
        for key, tensor in tensors.items():
            kind, index, position = key.split(".")
            found.setdefault(kind, {}).setdefault(int(index), {})[int(position)] = tensor

        def samples(kind: str, count: int = 0) -> list[Sample]:
            rows = found.get(kind, {})
            columns = (rows.get(row, {}) for row in range(max([count - 1, *rows]) + 1))
            return [tuple(row[position] for position in range(len(row))) for row in columns]

        structures, called, methods = names[2:] or ([], [], {})
        pairs = zip(samples("given", len(called)), samples("gave"), strict=True)
        calls = [Call(*call, *pair) for call, pair in zip(called, pairs, strict=True)]
        inputs, outputs = samples("input", len(structures)), samples("output")
        made = cls(inputs, outputs, labels, *names[:2], structures, calls, methods)
        return made if weights is None else replace(made, weights=_decoded(weights))


def _encoded(value: Any) -> torch.Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _decoded(tensor: torch.Tensor) -> Any:
    return json.loads(bytes(tensor.tolist()))


def default_output_names(count: int) -> list[str]:
    """Returns the names of outputs that the model module does not name."""
    return [f"output_{position}" for position in range(count)]


def output_names_of(outputs: Sequence[torch.Tensor] | Mapping[str, torch.Tensor]) -> list[str]:
    """Returns the names of a program's outputs, default ones if it has none."""
    named = isinstance(outputs, Mapping)
    return list(outputs) if named else default_output_names(len(outputs))


def as_sample(
    outputs: torch.Tensor | Sequence[torch.Tensor] | Mapping[str, torch.Tensor],
) -> Sample:
    """Returns a program's outputs as a tuple, also if it returned a single tensor or a dict."""
    if isinstance(outputs, Mapping):
        return tuple(outputs.values())
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)
