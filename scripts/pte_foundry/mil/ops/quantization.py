"""Quantization at run time (``iOS17/quantization_ops.py``)."""

import torch
from torch import Tensor

from pte_foundry.formats.mil_dtypes import BY_NAME
from pte_foundry.mil.parameters import Upcast
from pte_foundry.mil.registry import op


def along_axis(parameter: Tensor, rank: int, axis: int | None) -> Tensor:
    """Reshape a scalar or vector parameter to broadcast along ``axis`` of a tensor of ``rank``."""
    if parameter.ndim == 0:
        return parameter
    if axis is None:
        raise ValueError("a vector of scales needs an axis")
    shape = [1] * rank
    shape[axis] = -1
    return parameter.reshape(shape)


def _bytes(levels: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert integral floats within the range of ``dtype`` to it, NaN to 0."""
    # torch vectorizes float to int16 and int16 to uint8, but not float to uint8.
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
    # then saturated. The quotient stays in fp32: above 128, fp16 has steps of an eighth.
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
