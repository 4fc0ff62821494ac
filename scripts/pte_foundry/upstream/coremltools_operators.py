"""The torch operators that coremltools' frontend can convert.

Stands against: coremltools 9.0
Uses: ``_TORCH_OPS_REGISTRY`` and ``sanitize_op_kind`` (``converters/mil/frontend/torch``), by which
    ``is_torch_fx_node_supported`` decides whether ExecuTorch's partitioner delegates an operator,
    and which has the function that converts it.
Remove when: coremltools lists its operators publicly.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any
from unittest.mock import patch

import torch
from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
from coremltools.converters.mil.frontend.torch.utils import sanitize_op_kind

from pte_foundry.upstream import torch_operators
from pte_foundry.upstream.versions import require

require(_TORCH_OPS_REGISTRY, "name_to_func_mapping", patch=__name__)


Converter = Callable[[Any, Any], None]
"""Takes the context of a conversion and a node of the torch program."""


def converters() -> dict[str, Converter]:
    """Return the frontend's functions by the name of the operator, as they are now."""
    return dict(_TORCH_OPS_REGISTRY.name_to_func_mapping)


def converting(changed: Mapping[str, Converter]) -> AbstractContextManager[Any]:
    """Within this context the frontend converts these operators by other functions."""
    return patch.dict(_TORCH_OPS_REGISTRY.name_to_func_mapping, changed)


def converted(namespace: str = "aten") -> list[str]:
    """List the operators of a namespace that the frontend has a function for, sorted.

    Returns:
        names as they are printed, ``aten.max.dim``, of operators that a functional program can
        contain: without those that write to an argument (``add_``, ``add.out``).
    """
    names = []
    for full in torch._C._dispatch_get_all_op_names():
        name, _, overload = full.partition(".")
        space, _, packet = name.partition("::")
        if space != namespace:
            continue
        found = torch_operators.find(space, packet, overload or "default")
        if found is None or torch_operators.schema(found).is_mutable:
            continue
        # The partitioner looks up ``OpOverload.__name__``, as ``is_torch_fx_node_supported`` does.
        if sanitize_op_kind(found.__name__) in _TORCH_OPS_REGISTRY.name_to_func_mapping:
            names.append(str(found))
    return sorted(names)
