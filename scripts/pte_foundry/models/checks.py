"""Checks what the functions of a model module return (contract: ``pte_foundry.models.module``).

Each check raises ModelError with the problem and the fix; the loader prepends file and function.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pte_foundry.errors import ModelError
from pte_foundry.models.containers import kind_of
from pte_foundry.models.layout import InputLayout
from pte_foundry.models.sizes import Sizes
from pte_foundry.models.tensors import Sample

INPUT_DTYPES = (torch.float32, torch.int32, torch.int64, torch.bool)


def check_model(model: Any) -> None:
    """Checks for a module in eval mode with finite fp32 parameters and fp32 buffers (or integers).

    Buffers may hold infinities, as attention masks do.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"returned {kind_of(model)}; return a torch.nn.Module")
    training = [name or "the model" for name, part in model.named_modules() if part.training]
    if training:
        raise ModelError(f"left {training[0]} in training mode; end with `.eval()`")
    _check_tensors({**dict(model.named_parameters()), **dict(model.named_buffers())})
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and _has_inf(parameter.detach()):
            raise ModelError(f"gave {name} with inf; look at the weights")


def check_weights(state: Any) -> None:
    """Checks for a dict of at least one tensor, none with nan, floating point ones in fp32."""
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"returned {kind_of(state)}; return a state dict of tensors")
    if not state:
        raise ModelError("gave no tensors; return the state dict of the trained model")
    _check_tensors(state)


def _check_tensors(state: dict[str, Tensor]) -> None:
    for name, tensor in state.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float32:
            raise ModelError(f"gave {name} as {tensor.dtype}; keep fp32, the target rounds")
        if tensor.is_complex():
            raise ModelError(
                f"gave {name} as {tensor.dtype}, which Core ML does not have; keep its real and "
                "imaginary parts in two fp32 tensors, e.g. cos and sin"
            )
        if _has_nan(tensor):
            raise ModelError(f"gave {name} with nan; look at the weights")


def check_sample(sample: Sample, names: Sequence[str], what: str = "the sample") -> None:
    """Checks for tensors without nan with dtypes among ``INPUT_DTYPES``."""
    for name, tensor in zip(names, sample, strict=True):
        if tensor.dtype not in INPUT_DTYPES:
            allowed = ", ".join(str(dtype) for dtype in INPUT_DTYPES)
            raise ModelError(f"gave input {name} of {what} as {tensor.dtype}; allowed: {allowed}")
        if _has_nan(tensor):
            raise ModelError(f"gave input {name} of {what} with nan; remove it")


def samples_and_labels(returned: Any) -> tuple[Any, Any]:
    """Returns the two things that ``evaluation()`` returns."""
    if not isinstance(returned, tuple) or len(returned) != 2:
        raise ModelError("must return two things: (samples, labels or None)")
    return returned


def check_samples(samples: Any, layout: InputLayout, example: Sample, sizes: Sizes) -> list[Sample]:
    """Checks for a list of samples with the dtypes and ranks of ``example``, and sizes in range.

    Returns:
        Their tensors, in the order of the example's.
    """
    if not isinstance(samples, list):
        raise ModelError(f"gave its samples as {kind_of(samples)}; give a list")
    if not samples:
        raise ModelError("gave no samples; at least one is needed")
    expected = _shapes(example, sizes.dynamic)
    found = []
    for index, sample in enumerate(samples):
        flat = layout.flat(sample, f"sample {index}")
        check_sample(flat, layout.labels(flat), f"sample {index}")
        shapes = _shapes(flat, sizes.dynamic)
        if shapes != expected:
            raise ModelError(
                f"gave sample {index} as {shapes}, but example_inputs() is {expected}; "
                "give all samples its dtypes and shapes"
            )
        sizes.check(flat, f"sample {index}")
        found.append(flat)
    return found


def check_labels(labels: Any, samples: list[Sample]) -> None:
    """Checks for None, or a tensor with one row for each sample."""
    if labels is None:
        return
    if not isinstance(labels, Tensor) or not labels.dim():
        raise ModelError(
            f"gave labels as {kind_of(labels)}; give a tensor, one row for each sample"
        )
    if len(labels) != len(samples):
        raise ModelError(
            f"gave {len(samples)} samples and {len(labels)} labels; give one label each"
        )


def check_metrics(metrics: Any, finite: bool = True, empty: bool = False) -> None:
    """Checks for a dict of numbers by name, finite ones unless ``finite`` is false."""
    if not isinstance(metrics, dict) or not (metrics or empty):
        raise ModelError(f"returned {kind_of(metrics)}; return a dict of numbers by name")
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, int | float):
            raise ModelError(f"returned {name!r}: {kind_of(value)}; return plain numbers")
        if finite and not math.isfinite(value):
            raise ModelError(f"returned {name!r}: {value}; return a finite number")


def check_output_names(names: Any, count: int) -> None:
    """Checks for a list of ``count`` different names."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"returned {kind_of(names)}; return a list of names, one for each output")
    if not all(map(str.strip, names)):
        raise ModelError("returned an empty name; name every output")
    if len(names) != count:
        raise ModelError(
            f"returned {len(names)} names, but forward() has {count} outputs; name each of them"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ModelError(f"returned {twice[0]!r} twice; give every output a name of its own")


def check_outputs(outputs: Sample, names: Sequence[str]) -> None:
    """Checks for tensors without nan. Infinities may be masks."""
    for name, output in zip(names, outputs, strict=True):
        if _has_nan(output):
            shown = name.removeprefix("output_")
            raise ModelError(
                f"returned nan in output {shown}; look at weights, masks and divisions"
            )


def _has_inf(tensor: Tensor) -> bool:
    # Not isinf() of the whole tensor, which takes more memory than the tensor.
    return bool(tensor.numel()) and any(bound.isinf() for bound in torch.aminmax(tensor))


def _has_nan(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isnan().any())


def _shapes(sample: Sample, dynamic: bool) -> str:
    """Dtypes and shapes as text; with dynamic shapes the ranks alone."""
    shapes = (["?"] * tensor.dim() if dynamic else list(tensor.shape) for tensor in sample)
    parts = (f"{tensor.dtype} {shape}" for tensor, shape in zip(sample, shapes, strict=True))
    return f"({', '.join(parts)})"
