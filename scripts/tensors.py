"""Samples on disk: the inputs, outputs and labels that one stage hands to the next."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from scripts.files import replacing

Sample = tuple[torch.Tensor, ...]


@dataclass(frozen=True)
class Samples:
    """What was run: for each sample its inputs and its outputs, and the labels if there are any."""

    inputs: list[Sample]
    outputs: list[Sample]
    labels: torch.Tensor | None

    def save(self, path: Path) -> None:
        """Writes one safetensors file with the keys ``input.<sample>.<position>`` and so on."""
        tensors = {} if self.labels is None else {"labels": self.labels}
        for kind, samples in (("input", self.inputs), ("output", self.outputs)):
            for index, sample in enumerate(samples):
                for position, tensor in enumerate(sample):
                    # A clone, because safetensors refuses tensors that share memory.
                    tensors[f"{kind}.{index}.{position}"] = tensor.detach().contiguous().clone()
        with replacing(path) as temporary:
            save_file(tensors, temporary)

    @classmethod
    def load(cls, path: Path) -> "Samples":
        tensors = load_file(path)
        labels = tensors.pop("labels", None)
        found: dict[str, dict[int, dict[int, torch.Tensor]]] = {"input": {}, "output": {}}
        for key, tensor in tensors.items():
            kind, index, position = key.split(".")
            found[kind].setdefault(int(index), {})[int(position)] = tensor
        inputs, outputs = (
            [
                tuple(sample[i] for i in range(len(sample)))
                for _, sample in sorted(found[kind].items())
            ]
            for kind in ("input", "output")
        )
        return cls(inputs, outputs, labels)


def as_sample(outputs: torch.Tensor | Sequence[torch.Tensor]) -> Sample:
    """A module's outputs as a tuple, also when it returns one tensor."""
    return (outputs,) if isinstance(outputs, torch.Tensor) else tuple(outputs)
