"""Weight-only quantization by torchao 0.18's ``quantize_``, as an ordered list of steps.

A step is a dict::

    {"scheme": "affine",                      # IntxWeightOnlyConfig
     "types": ["torch.nn.Linear"],            # dotted names; the default is upstream's: linears
     "names": ["*"], "exclude": [],           # fnmatch patterns of fully qualified module names
     "weight_dtype": "int4",                  # or int8; Core ML has no others
     "granularity": {"group_size": 32},       # or {"axis": 0}
     "mapping_type": "SYMMETRIC",             # ASYMMETRIC, SYMMETRIC_NO_CLIPPING_ERR
     "scale_dtype": None,                     # e.g. "float16"
     "intx_choose_qparams_algorithm": "affine"}           # hqq_scale_only

    {"scheme": "codebook", "types": ..., "names": ..., "exclude": ...,   # CodebookWeightOnlyConfig
     "dtype": "uint3",                        # uint1 ... uint8; 5 and 7 are stored in 6 and 8
     "block_size": [16, -1],                  # [-1, -1]: one table for the whole weight
     "solver": "exact"}                       # ours, or "upstream": scikit-learn's

The first step that chooses a module quantizes it; later steps leave it alone.
"""

import contextlib
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import nn
from torchao.core.config import AOBaseConfig
from torchao.prototype.quantization.codebook_coreml import CodebookWeightOnlyConfig
from torchao.quantization import IntxWeightOnlyConfig, quantize_
from torchao.quantization.granularity import PerAxis, PerGroup
from torchao.quantization.quant_primitives import MappingType
from torchao.quantization.quantize_.workflows import IntxChooseQParamsAlgorithm, IntxPackingFormat

from pte_foundry.errors import ConfigError, ModelError
from pte_foundry.quantize.codebook import carrier, solver
from pte_foundry.quantize.settings import resolve


def quantize(module: nn.Module, steps: list[dict[str, Any]]) -> nn.Module:
    """Replaces the chosen weights of ``module`` by quantized ones, and returns it.

    Modules that share one weight get one quantized weight, shared again. Each weight is released
    as it is replaced, so that no two copies of the model need to fit in memory.

    Args:
        module: a float model. After an error, some of its weights may have been replaced.
        steps: see the head of this file; applied in this order.

    Raises:
        ConfigError: a step's options are wrong.
        ModelError: a step finds no module, a chosen weight cannot be quantized as asked, or
            modules that share a weight are chosen by different steps.
    """
    chosen = _choose(module, steps)
    for number, step in enumerate(steps, start=1):
        config = _config(step)
        weights: dict[int, list[tuple[str, nn.Module]]] = {}
        for name, child in module.named_modules():
            if chosen.get(name) == number:
                weights.setdefault(id(child.weight), []).append((name, child))
        for sharing in weights.values():
            _quantize_weight(sharing, config, step)
    return module


def _quantize_weight(
    sharing: list[tuple[str, nn.Module]], config: AOBaseConfig, step: dict[str, Any]
) -> None:
    name, first = sharing[0]
    _check_weight(name, first.weight, step)
    tables: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if step["scheme"] == "codebook":
        tables = solver(step.get("solver", "exact"), int(step["dtype"].removeprefix("uint")))
    with tables:
        quantize_(first, config, filter_fn=lambda child, _: child is first)
    for _, other in sharing[1:]:
        other.weight = first.weight


def _choose(module: nn.Module, steps: list[dict[str, Any]]) -> dict[str, int]:
    """Which step (from 1) quantizes which module."""
    chosen: dict[str, int] = {}
    for number, step in enumerate(steps, start=1):
        types = tuple(resolve(name) for name in step.get("types", ["torch.nn.Linear"]))
        if wrong := [kind for kind in types if not isinstance(kind, type)]:
            raise ConfigError(f"step {number}: {wrong[0]} is a function; types are module classes")
        found = [n for n, child in module.named_modules() if _matches(n, child, step, types)]
        if not found:
            raise ModelError(f"step {number} matches no module: {_describe(step)}")
        if not set(found) - chosen.keys():
            raise ModelError(f"step {number}: earlier steps take all of its modules: {found}")
        chosen |= {name: number for name in found if name not in chosen}
    by_weight: dict[int, str] = {}
    for name, number in chosen.items():
        other = by_weight.setdefault(id(module.get_submodule(name).weight), name)
        if chosen[other] != number:
            raise ModelError(
                f"{other!r} and {name!r} share one weight, but step {chosen[other]} quantizes the "
                f"one and step {number} the other; let one step choose both, exclude one of them, "
                "or give the model two weights"
            )
    return chosen


def _matches(name: str, child: nn.Module, step: dict[str, Any], types: tuple[type, ...]) -> bool:
    # As upstream's default filter: attention reads this linear's weight without calling it.
    internal = nn.modules.linear.NonDynamicallyQuantizableLinear
    return (
        isinstance(child, types)
        and (not isinstance(child, internal) or internal in types)
        and isinstance(getattr(child, "weight", None), torch.Tensor)
        and any(fnmatchcase(name, pattern) for pattern in step.get("names", ["*"]))
        and not any(fnmatchcase(name, pattern) for pattern in step.get("exclude", []))
    )


def _describe(step: dict[str, Any]) -> str:
    keys = ("types", "names", "exclude")
    return ", ".join(f"{key} {step[key]}" for key in keys if key in step) or "it asks for linears"


def _config(step: dict[str, Any]) -> AOBaseConfig:
    """Upstream's configuration of a step."""
    options = {k: v for k, v in step.items() if k not in ("scheme", "types", "names", "exclude")}
    try:
        if step["scheme"] == "codebook":
            if options.pop("solver", "exact") not in ("exact", "upstream"):
                raise ConfigError(f"solver {step['solver']!r}: allowed are 'exact' and 'upstream'")
            _dtype(options["dtype"], [f"uint{n}" for n in range(1, 9)])
            bits = carrier(int(options["dtype"].removeprefix("uint")))
            options["dtype"] = getattr(torch, f"uint{bits}")
            return CodebookWeightOnlyConfig(**options)
        if step["scheme"] != "affine":
            raise ConfigError(f"scheme {step['scheme']!r}: allowed are 'affine' and 'codebook'")
        if "weight_dtype" in options:
            options["weight_dtype"] = _dtype(options["weight_dtype"], ["int4", "int8"])
        if options.get("scale_dtype") is not None:
            allowed = ["float32", "float16", "bfloat16"]
            options["scale_dtype"] = _dtype(options["scale_dtype"], allowed)
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


def _check_weight(name: str, weight: torch.Tensor, step: dict[str, Any]) -> None:
    shape = tuple(weight.shape)
    if weight.dim() != 2:
        raise ModelError(
            f"the weight of {name!r} has shape {shape}, but Core ML takes only matrices from "
            "'quantize' recipes; exclude the module, or quantize it with a 'pt2e' recipe"
        )
    # Not isfinite(), which takes more memory than the weight.
    if not all(bound.isfinite() for bound in torch.aminmax(weight.detach())):
        raise ModelError(f"the weight of {name!r} holds values that are not finite")
    if step["scheme"] == "codebook":
        rows, columns = (
            s if s != -1 else n for s, n in zip(step["block_size"], shape, strict=True)
        )
        if shape[0] % rows or shape[1] % columns:
            raise ModelError(
                f"block_size {step['block_size']} does not divide the weight of {name!r}, {shape}"
            )
        if rows != shape[0] and columns != shape[1]:
            raise ModelError(
                f"block_size {step['block_size']} cuts the weight of {name!r}, {shape}, both ways; "
                "one of the two must be -1"
            )
    elif (size := (step.get("granularity") or {}).get("group_size")) and shape[1] % size:
        raise ModelError(f"group_size {size} does not divide the weight of {name!r}, {shape}")
