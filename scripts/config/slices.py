"""Parts of a configuration as steps read them: plain data, canonical text, names of files."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from scripts.config.recipes import LinearQuantizer, Step


def slice_json(part: Mapping[str, Any]) -> str:
    """Write a slice as canonical JSON: sorted keys, no spaces, ASCII; equal slices, equal text."""
    return json.dumps(part, sort_keys=True, separators=(",", ":"), allow_nan=False)


def key(readable: str, part: Mapping[str, Any]) -> str:
    """Names what a slice shapes: readable, and a digest of the slice."""
    return f"{readable}-{hashlib.sha256(slice_json(part).encode()).hexdigest()[:8]}"


def plain(entry: BaseModel) -> dict[str, Any]:
    """A part of the configuration as JSON-able data."""
    return entry.model_dump(mode="json")


def flat(step: Step) -> dict[str, Any]:
    """A step as ``scripts.quantize.steps`` takes it: scheme, filter and config on one level."""
    scheme = "affine" if step.codebook is None else "codebook"
    return {"scheme": scheme, **plain(step.modules), **plain(getattr(step, scheme))}


def activations(part: LinearQuantizer | None) -> dict[str, str] | None:
    """What calibration reads of a part: ``None`` if it is not quantized."""
    if part is None or not part.quantizes:
        return None
    keys = ("quantization_scheme", "activation_dtype", "activation_observer")
    return {key: getattr(part, key) for key in keys}
