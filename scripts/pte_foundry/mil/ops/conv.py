"""Convolutions in one to three dimensions (``iOS15`` and ``iOS17/conv.py``)."""

import torch.nn.functional as F
from torch import Tensor

from pte_foundry.mil.ops.activation import per_channel
from pte_foundry.mil.parameters import Ints, Upcast
from pte_foundry.mil.registry import op

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_CONV_TRANSPOSE = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def paddings(
    pad_type: str, sizes: Ints, kernels: Ints, strides: Ints, pad: Ints | None
) -> list[tuple[int, int]]:
    """Padding (before, after) of each spatial dimension.

    ``same`` pads so that the output has ``ceil(size / stride)`` elements. An odd element of padding
    goes after, with ``same_lower`` before (coremltools, ``_utils.py``, ``aggregated_pad``). The
    documentation of ``conv`` has a formula of the kernel alone, which holds for stride 1 only.

    Args:
        kernels: kernel sizes with dilation.
        pad: for ``custom``, (before, after) of each dimension, flat.
    """
    if pad_type == "valid":
        return [(0, 0)] * len(sizes)
    if pad_type == "custom":
        pad = pad if pad is not None else [0] * (2 * len(sizes))
        return list(zip(pad[::2], pad[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"unknown pad_type {pad_type!r}")
    result = []
    for size, kernel, stride in zip(sizes, kernels, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
        less, more = total // 2, total - total // 2
        result.append((less, more) if pad_type == "same" else (more, less))
    return result


def pad_spatial(x: Tensor, pads: list[tuple[int, int]], value: float = 0.0) -> Tensor:
    """Pad the last dimensions, given first to last; negative padding crops."""
    if not any(before or after for before, after in pads):
        return x
    return F.pad(x, [amount for pair in reversed(pads) for amount in pair], value=value)


def _dilated(kernels: Ints, dilations: Ints) -> Ints:
    return [(k - 1) * d + 1 for k, d in zip(kernels, dilations, strict=True)]


@op("conv")
def conv(
    *,
    x: Upcast,
    weight: Upcast,
    bias: Upcast | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    kernels = _dilated(list(weight.shape[2:]), dilations)
    pads = paddings(pad_type, list(x.shape[2:]), kernels, strides, pad)
    both_sides = [before for before, _ in pads]
    if any(before != after for before, after in pads):
        x, both_sides = pad_spatial(x, pads), 0
    return _CONV[rank](x, weight, bias, strides, both_sides, dilations, groups)


@op("conv_quantized")
def conv_quantized(
    *,
    x: Upcast,
    weight: Tensor,
    quantization_type: str,
    quant_scale: Upcast,
    quant_bias: Upcast,
    bias: Tensor | None = None,
    nbits: int = 8,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    # The weights are whole bytes, whatever `nbits` is.
    if quantization_type != "linear":
        raise ValueError(
            f"quantization_type {quantization_type!r}, expected 'linear': the operation has no "
            "parameter for the values of a lookup table"
        )
    # One scale for all, or one per output channel (LinearQuantizationParams, NeuralNetwork.proto).
    # coremltools accepts only uint8 for the bias, and its lowering (backend/nn/op_mapping.py,
    # conv_helper) quantizes the weights alone: the bias is not scaled.
    per_output = (-1, *[1] * (weight.ndim - 1))
    return conv(
        x=x,
        weight=weight * quant_scale.reshape(per_output) + quant_bias.reshape(per_output),
        bias=None if bias is None else bias.float(),
        strides=strides,
        pad_type=pad_type,
        pad=pad,
        dilations=dilations,
        groups=groups,
    )


@op("conv_transpose")
def conv_transpose(
    *,
    x: Upcast,
    weight: Upcast,
    bias: Upcast | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    rank = x.ndim - 2
    strides, dilations = strides or [1] * rank, dilations or [1] * rank
    kernels = _dilated(list(weight.shape[2:]), dilations)
    full = _CONV_TRANSPOSE[rank](x, weight, None, strides, groups=groups, dilation=dilations)
    # The padding of the transposed convolution is cropped; `same` means that its input, which is
    # the output here, has size * stride elements.
    sizes = [n * s for n, s in zip(x.shape[2:], strides, strict=True)]
    pads = paddings(pad_type, sizes, kernels, strides, pad)
    outputs = (output_shape or [])[2:] or [
        size if pad_type.startswith("same") else n - before - after
        for size, n, (before, after) in zip(sizes, full.shape[2:], pads, strict=True)
    ]
    crops = [
        (-before, want - (n - before))
        for want, n, (before, _) in zip(outputs, full.shape[2:], pads, strict=True)
    ]
    # The bias comes after the padding: elements that no input reaches are the bias.
    result = pad_spatial(full, crops)
    return result if bias is None else result + per_channel(bias, result)
