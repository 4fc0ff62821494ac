"""Quantization at run time (``iOS17/quantization_ops.py``)."""

import torch
from torch import Tensor

from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.mil.parameters import Upcast
from pte_foundry.mil.registry import op


def along_axis(parameter: Tensor, rank: int, axis: int | None) -> Tensor:
    """Shapes a scalar or vector parameter to broadcast along ``axis`` of a tensor of ``rank``."""
    if parameter.ndim == 0:
        return parameter
    if axis is None:
        raise ValueError("a vector of scales needs an axis")
    shape = [1] * rank
    shape[axis] = -1
    return parameter.reshape(shape)


def _bytes(levels: Tensor, dtype: torch.dtype) -> Tensor:
    """Whole numbers within the range of ``dtype`` as such, NaN as 0."""
    # torch converts floats to uint8 one by one, but to int16, and that to uint8, many at once.
    return levels.to(torch.int16).to(dtype) if dtype == torch.uint8 else levels.to(dtype)


@op("quantize", since="iOS17")
def quantize(
    *,
    input: Tensor,
    scale: Upcast,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    # clip(round(input / scale) + zero_point): half to even (coremltools rounds with np.around),
    # then saturate. The quotient stays in fp32: fp16 would itself round to eighths above 128.
    levels = input.to(torch.float32, copy=True)
    levels /= along_axis(scale, input.ndim, axis)
    levels.round_()
    if zero_point is not None:
        levels += along_axis(zero_point, input.ndim, axis)
    dtype = BY_NAME[output_dtype].torch
    limits = torch.iinfo(dtype)
    return _bytes(levels.clamp_(limits.min, limits.max), dtype)


def affine(data: Tensor, scale: Tensor, zero_point: Tensor | None, axis: int | None) -> Tensor:
    """``scale * (data - zero_point)`` in fp32, rounded to the dtype of ``scale``."""
    levels = data.to(torch.float32, copy=True)
    if zero_point is not None:
        levels -= along_axis(zero_point, data.ndim, axis)
    levels *= along_axis(scale, data.ndim, axis)
    return levels.to(scale.dtype)


@op("dequantize", since="iOS17")
def dequantize(
    *, input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    return affine(input, scale, zero_point, axis)
