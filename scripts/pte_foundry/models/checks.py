"""Checks what the functions of a model module return (contract: ``pte_foundry.models.module``).

Each check raises ModelError with the problem and the fix; the loader prepends file and function.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from pte_foundry.errors import ModelError
from pte_foundry.models.tensors import Sample

INPUT_DTYPES = (torch.float32, torch.int32, torch.int64, torch.bool)


def check_model(model: Any) -> None:
    """Checks for a module in eval mode with finite fp32 parameters and fp32 buffers (or integers).

    Buffers may hold infinities, as attention masks do.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(f"returned {_kind(model)}; return a torch.nn.Module")
    training = [name or "the model" for name, part in model.named_modules() if part.training]
    if training:
        raise ModelError(f"left {training[0]} in training mode; end with `.eval()`")
    _check_tensors({**dict(model.named_parameters()), **dict(model.named_buffers())})
    for name, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.isinf().any():
            raise ModelError(f"gave {name} with inf; look at the weights")


def check_weights(state: Any) -> None:
    """Checks for a dict of at least one tensor, none with nan, floating point ones in fp32."""
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"returned {_kind(state)}; return a state dict of tensors")
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


def check_sample(sample: Any, what: str = "the sample") -> None:
    """Checks for a tuple of tensors without nan with dtypes among ``INPUT_DTYPES``."""
    if not isinstance(sample, tuple) or not sample or not _are_tensors(sample):
        fix = "give a tuple of tensors"
        if isinstance(sample, tuple) and any(one is None for one in sample):
            fix += (
                "; leave optional inputs out at the end, or fix them in a module around the model"
            )
        raise ModelError(f"gave {what} as {_kind(sample)}; {fix}")
    for position, tensor in enumerate(sample):
        if tensor.dtype not in INPUT_DTYPES:
            allowed = ", ".join(str(dtype) for dtype in INPUT_DTYPES)
            raise ModelError(
                f"gave input {position} of {what} as {tensor.dtype}; allowed: {allowed}"
            )
        if _has_nan(tensor):
            raise ModelError(f"gave input {position} of {what} with nan; remove it")


def check_samples(samples: Any, example: Sample, dynamic: bool) -> None:
    """Checks for a list of samples with the dtypes and shapes (dynamic: ranks) of ``example``."""
    if not isinstance(samples, list):
        raise ModelError(f"gave its samples as {_kind(samples)}; give a list")
    if not samples:
        raise ModelError("gave no samples; at least one is needed")
    expected = _layout(example, dynamic)
    for index, sample in enumerate(samples):
        check_sample(sample, f"sample {index}")
        layout = _layout(sample, dynamic)
        if layout != expected:
            raise ModelError(
                f"gave sample {index} as {layout}, but example_inputs() is {expected}; "
                "give all samples its dtypes and shapes"
            )


def check_labels(labels: Any, samples: list[Sample]) -> None:
    """Checks for None, or a tensor with one row for each sample."""
    if labels is None:
        return
    if not isinstance(labels, Tensor) or not labels.dim():
        raise ModelError(f"gave labels as {_kind(labels)}; give a tensor, one row for each sample")
    if len(labels) != len(samples):
        raise ModelError(
            f"gave {len(samples)} samples and {len(labels)} labels; give one label each"
        )


def check_metrics(metrics: Any, finite: bool = True) -> None:
    """Checks for a dict of numbers by name, finite ones unless ``finite`` is false."""
    if not isinstance(metrics, dict) or not metrics:
        raise ModelError(f"returned {_kind(metrics)}; return a dict of numbers by name")
    for name, value in metrics.items():
        if not isinstance(name, str) or not isinstance(value, int | float):
            raise ModelError(f"returned {name!r}: {_kind(value)}; return plain numbers")
        if finite and not math.isfinite(value):
            raise ModelError(f"returned {name!r}: {value}; return a finite number")


def check_output_kinds(outputs: Any) -> None:
    """Checks for a tensor, or a tuple or list of at least one tensor; none is complex."""
    plain = outputs if isinstance(outputs, tuple | list) else (outputs,)
    if not plain or not _are_tensors(plain):
        raise ModelError(f"returned {_kind(outputs)}; {_wrapper(outputs)}")
    for position, output in enumerate(plain):
        if output.is_complex():
            raise ModelError(
                f"returned output {position} as {output.dtype}, which Core ML does not have; "
                "return torch.view_as_real(y), or its magnitude"
            )


def _wrapper(outputs: Any) -> str:
    """How to make a tuple of tensors of what forward() returned."""
    fix = "return a tensor or a tuple of tensors"
    if isinstance(outputs, dict):
        return f"{fix}; wrap the model in a module that ends with `return tuple(d.values())`"
    if isinstance(outputs, tuple | list) and outputs:
        return f"{fix}: flatten nested tuples, and leave out what is no tensor"
    if outputs is None:
        return f"{fix}; look for a missing `return`"
    return f"{fix}; wrap the model in a module that returns the tensors of it, `(out.a, out.b)`"


def check_output_names(names: Any, count: int) -> None:
    """Checks for a list of ``count`` different names."""
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"returned {_kind(names)}; return a list of names, one for each output")
    if not all(map(str.strip, names)):
        raise ModelError("returned an empty name; name every output")
    if len(names) != count:
        raise ModelError(
            f"returned {len(names)} names, but forward() has {count} outputs; name each of them"
        )
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ModelError(f"returned {twice[0]!r} twice; give every output a name of its own")


def check_outputs(outputs: Any) -> None:
    """Checks for a tensor or a tuple of tensors without nan. Infinities may be masks."""
    check_output_kinds(outputs)
    outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
    for position, output in enumerate(outputs):
        if _has_nan(output):
            raise ModelError(
                f"returned nan in output {position}; look at weights, masks and divisions"
            )


def _are_tensors(values: Any) -> bool:
    return all(isinstance(value, Tensor) for value in values)


def _has_nan(tensor: Tensor) -> bool:
    return tensor.is_floating_point() and bool(tensor.isnan().any())


def _layout(sample: Sample, dynamic: bool) -> str:
    """Dtypes and shapes as text; with dynamic shapes the ranks alone."""
    shapes = (["?"] * tensor.dim() if dynamic else list(tensor.shape) for tensor in sample)
    parts = (f"{tensor.dtype} {shape}" for tensor, shape in zip(sample, shapes, strict=True))
    return f"({', '.join(parts)})"


def _kind(value: Any) -> str:
    if isinstance(value, tuple | list | dict):
        items = value.values() if isinstance(value, dict) else value
        inside = sorted({_type(item) for item in items})
        return f"a {type(value).__name__} of {', '.join(inside) or 'nothing'}"
    return "None" if value is None else f"a {_type(value)}"


def _type(value: Any) -> str:
    """The name of a value's type; while a model is exported its tensors are of a subclass."""
    return (
        "None" if value is None else "Tensor" if isinstance(value, Tensor) else type(value).__name__
    )
