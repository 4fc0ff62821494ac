"""The table of a model's modules, which configs name."""

import sys
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.export import ExportedProgram

from pte_foundry.models.stored_weights import StoredWeight
from pte_foundry.models.weight_readers import obstacles


def modules_table(
    model: nn.Module,
    *programs: ExportedProgram,
    stored: Mapping[str, StoredWeight] | None = None,
) -> list[dict[str, Any]]:
    """Returns the modules of a model as rows, to check a recipe's names and types against.

    Keys of a row: ``name`` (fully qualified), ``type`` (dotted), ``types`` (every public dotted
    name of the class and of its bases below ``torch.nn.Module``, such as ``torch.nn.Linear`` and
    ``torch.nn.modules.linear.Linear``), ``weight`` (shape, or None), ``obstacle`` (why the weight
    cannot be replaced by a quantized one, or None; with all ``programs`` of the model, also for
    the way in which the weight is read). ``stored``: the bits of the weight in the model's file;
    rows of weights that the file does not store quantized lack it.
    """
    table = []
    reasons = obstacles(model, *programs)
    for name, part in model.named_modules():
        classes = type(part).__mro__[: type(part).__mro__.index(nn.Module)]
        weight = getattr(part, "weight", None)
        table.append(
            {
                "name": name,
                "type": _dotted(type(part)),
                "types": [public for each in classes for public in _public_names(each)],
                "weight": list(weight.shape) if isinstance(weight, Tensor) else None,
                "obstacle": reasons.get(name),
                **({"stored": stored[name].bits} if stored and name in stored else {}),
            }
        )
    return table


def _dotted(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"


def _public_names(kind: type) -> list[str]:
    """Dotted names of a class: in the packages that re-export it, then in its own module."""
    parts = kind.__module__.split(".")
    packages = [".".join(parts[:depth]) for depth in range(1, len(parts))]
    exporting = [p for p in packages if getattr(sys.modules.get(p), kind.__name__, None) is kind]
    return [*(f"{package}.{kind.__name__}" for package in exporting), _dotted(kind)]
