"""Weight-only quantization by torchao 0.18's ``quantize_``, as an ordered list of steps.

A step is what ``Step.slice`` returns (``pte_foundry.config``)::

    {"scheme": "affine",                      # IntxWeightOnlyConfig
     "types": ["torch.nn.Linear"],            # dotted names of module classes
     "names": ["*"], "exclude": [],           # fnmatch patterns of fully qualified module names
     "optional": False,                       # whether the step may match nothing
     "weight_dtype": "int4",                  # or int8; Core ML has no others
     "granularity": {"group_size": 32},       # or {"axis": 0}
     "mapping_type": "symmetric",             # asymmetric, symmetric_no_clipping_err
     "scale_dtype": None,                     # float16 or float32; None: the weight's
     "intx_choose_qparams_algorithm": "affine"}           # hqq_scale_only

    {"scheme": "codebook", "types": ..., "names": ..., "exclude": ...,   # CodebookWeightOnlyConfig
     "dtype": "uint3",                        # uint1 ... uint8; 5 and 7 are stored in 6 and 8
     "block_size": [16, -1]}                  # [-1, -1]: one table for the whole weight

    {"scheme": "stored", "types": ..., "names": ..., "exclude": ...}     # the file's own numbers

Of ``types``, ``names``, ``exclude``, ``granularity`` and ``block_size`` none may be missing; other
options have torchao's defaults. ``pte_foundry.quantize.selection`` has the rules for the choice of
modules and for their weights.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torchao.core.config import AOBaseConfig
from torchao.prototype.quantization.codebook_coreml import CodebookWeightOnlyConfig
from torchao.quantization import IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.quantization.quant_primitives import MappingType
from torchao.quantization.quantize_.workflows import (
    IntxChooseQParamsAlgorithm,
    IntxPackingFormat,
    IntxUnpackedToInt8Tensor,
)

from pte_foundry.errors import ConfigError, ModelError
from pte_foundry.models.stored_weights import StoredWeight
from pte_foundry.models.structure import modules_table
from pte_foundry.quantize.codebook import carrier, solver
from pte_foundry.quantize.selection import assigned, described, left_out, why_nothing

_FILTERS = ("types", "names", "exclude")

log = logging.getLogger(__name__)


def quantize(
    module: nn.Module,
    steps: list[dict[str, Any]],
    table: Sequence[Mapping[str, Any]] | None = None,
    stored: Mapping[str, StoredWeight] | None = None,
) -> nn.Module:
    """Replaces the selected weights of ``module`` by quantized ones, and returns it.

    Modules that share one weight get one quantized weight, shared again. Each weight is released
    as it is replaced, so that no two copies of the model need to fit in memory.

    Args:
        module: a float model. After an error, some of its weights may have been replaced.
        steps: see the head of this file; applied in this order.
        table: ``models.structure.modules_table(module, program)``; without it, modules that read
            their weight in a way that torchao does not support are not left out.
        stored: the quantized weights of the model's file, by module, for ``stored`` steps.

    Raises:
        ConfigError: a step's options are wrong.
        ModelError: a step that is not optional compresses no module, or all of them none; a weight
            is not finite; or modules that share a weight belong to different steps.
    """
    configs = [_config(step) for step in steps]
    table = modules_table(module, stored=stored) if table is None else table
    chosen = _assign(module, steps, table)
    for step, config, names in zip(steps, configs, chosen, strict=True):
        weights: dict[int, list[tuple[str, nn.Module]]] = {}
        for name in names:
            child = module.get_submodule(name)
            weights.setdefault(id(child.weight), []).append((name, child))
        for sharing in weights.values():
            if config is None:
                _take_stored(sharing, stored or {})
            else:
                _quantize_weight(sharing, config, step)
    return module


def _take_stored(sharing: list[tuple[str, nn.Module]], stored: Mapping[str, StoredWeight]) -> None:
    """Gives modules that share a weight the one that the file stores."""
    name, first = sharing[0]
    bits, codes, scale, zero_point = stored[name]
    quantized = IntxUnpackedToInt8Tensor(
        qdata=codes,
        scale=scale,
        zero_point=torch.zeros_like(scale, dtype=torch.int8) if zero_point is None else zero_point,
        target_dtype=getattr(torch, f"int{bits}"),
        block_size=(1, codes.shape[1] // scale.shape[1]),
        dtype=first.weight.dtype,
        activation_quantization=None,
    )
    parameter = nn.Parameter(quantized, requires_grad=False)
    for _, module in sharing:
        module.weight = parameter


def _quantize_weight(
    sharing: list[tuple[str, nn.Module]], config: AOBaseConfig, step: dict[str, Any]
) -> None:
    name, first = sharing[0]
    # Not isfinite() of the weight, which takes more memory than the weight.
    if not all(bound.isfinite() for bound in torch.aminmax(first.weight.detach())):
        raise ModelError(f"the weight of {name!r} holds values that are not finite")
    tables: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if step["scheme"] == "codebook":
        tables = solver(int(step["dtype"].removeprefix("uint")))
    with tables:
        quantize_(first, config, filter_fn=lambda child, _: child is first)
    for _, other in sharing[1:]:
        other.weight = first.weight


def _assign(
    module: nn.Module, steps: list[dict[str, Any]], table: Sequence[Mapping[str, Any]]
) -> list[list[str]]:
    """Names of the modules that each step quantizes, checked."""
    found = assigned(steps, table)
    if not any(found):
        raise ModelError(f"no step quantizes a module: {_reasons(steps, table)}")
    by_weight: dict[int, tuple[str, int]] = {}
    for number, (step, rows) in enumerate(zip(steps, found, strict=True), start=1):
        left = left_out(step, table)
        taken = {row["name"] for each in found for row in each}
        for text in described({name: why for name, why in left.items() if name not in taken}):
            log.warning("step %d leaves in floating point %s", number, text)
        if not rows and not step.get("optional"):
            raise ModelError(
                f"step {number} quantizes no module: {_reasons([step], table)}; "
                "widen types or names, or set `optional: true`"
            )
        for row in rows:
            name = row["name"]
            weight = id(module.get_submodule(name).weight)
            other, first = by_weight.setdefault(weight, (name, number))
            if first != number:
                raise ModelError(
                    f"{other!r} and {name!r} share one weight, but step {first} quantizes the one "
                    f"and step {number} the other; let one step select both, exclude one of them, "
                    "or give the model two weights"
                )
    return [[row["name"] for row in rows] for rows in found]


def _reasons(steps: list[dict[str, Any]], table: Sequence[Mapping[str, Any]]) -> str:
    return "; ".join(
        why_nothing(step, table)
        or "no module matches " + ", ".join(f"{key} {step[key]}" for key in _FILTERS)
        for step in steps
    )


def _config(step: dict[str, Any]) -> AOBaseConfig | None:
    """Upstream's configuration of a step; None: there is nothing to configure."""
    if step["scheme"] == "stored":
        return None
    options = {k: v for k, v in step.items() if k not in ("scheme", "optional", *_FILTERS)}
    try:
        if step["scheme"] == "codebook":
            _dtype(options["dtype"], [f"uint{n}" for n in range(1, 9)])
            bits = carrier(int(options["dtype"].removeprefix("uint")))
            options["dtype"] = getattr(torch, f"uint{bits}")
            return CodebookWeightOnlyConfig(**options)
        if step["scheme"] != "affine":
            raise ConfigError(
                f"scheme {step['scheme']!r}: allowed are 'affine', 'codebook', 'stored'"
            )
        if "weight_dtype" in options:
            options["weight_dtype"] = _dtype(options["weight_dtype"], ["int4", "int8"])
        if options.get("scale_dtype") is not None:
            options["scale_dtype"] = _dtype(options["scale_dtype"], ["float16", "float32"])
        if "granularity" in options:
            options["granularity"] = _granularity(options["granularity"])
        if "mapping_type" in options:
            options["mapping_type"] = MappingType[options["mapping_type"].upper()]
        if "intx_packing_format" in options:
            options["intx_packing_format"] = IntxPackingFormat(options["intx_packing_format"])
        if "intx_choose_qparams_algorithm" in options:
            algorithm = IntxChooseQParamsAlgorithm(options["intx_choose_qparams_algorithm"])
            options["intx_choose_qparams_algorithm"] = algorithm
        return IntxWeightOnlyConfig(**options)
    except (AssertionError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{step['scheme']} step: {type(error).__name__}: {error}") from error


def _dtype(name: str, allowed: list[str]) -> torch.dtype:
    if name not in allowed:
        raise ConfigError(f"dtype {name!r}: allowed are {', '.join(allowed)}")
    return getattr(torch, name)


def _granularity(granularity: dict[str, int]) -> PerAxis | PerGroup:
    match granularity:
        case {"axis": axis, **rest} if not rest:
            return PerAxis(axis)
        case {"group_size": size, **rest} if not rest:
            return PerGroup(size)
    raise ConfigError(f"granularity {granularity}: give either {{axis: 0}} or {{group_size: n}}")
