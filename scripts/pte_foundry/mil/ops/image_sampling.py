"""Images sampled at given coordinates or in boxes (``image_resizing.py`` of iOS15 to iOS17).

Sources are those of :mod:`pte_foundry.mil.ops.image_resizing`.
"""

import torch
from torch import Tensor

from pte_foundry.mil.ops.image_resizing import grid
from pte_foundry.mil.parameters import Upcast
from pte_foundry.mil.registry import op


def _pick(x: Tensor, which: Tensor, rows: Tensor, columns: Tensor, outside: float | None) -> Tensor:
    """Pixels ``x[which[n], :, rows[n], columns[n]]`` as ``[n, :, ...]``.

    Args:
        outside: the value beyond the borders; None for that of the nearest border pixel.
    """
    height, width = x.shape[-2:]
    within = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
    picked = x[which.view(-1, 1, 1), :, *within].movedim(-1, 1)
    if outside is None:
        return picked
    inside = (rows == within[0]) & (columns == within[1])
    return torch.where(inside.unsqueeze(1), picked, outside)


def _blend(
    x: Tensor, which: Tensor, rows: Tensor, columns: Tensor, outside: float | None
) -> Tensor:
    """Bilinear interpolation at positions ``[n, h, w]`` in images ``[b, c, H, W]``."""
    top, left = rows.floor(), columns.floor()
    down = (rows - top).to(x.dtype).unsqueeze(1)
    right = (columns - left).to(x.dtype).unsqueeze(1)
    top, left = top.to(torch.int64), left.to(torch.int64)
    upper, lower = (
        torch.lerp(
            _pick(x, which, row, left, outside), _pick(x, which, row, left + 1, outside), right
        )
        for row in (top, top + 1)
    )
    return torch.lerp(upper, lower, down)


def _reflect(position: Tensor, low: float, high: float) -> Tensor:
    """Fold a line onto ``[low, high]``."""
    span = high - low
    if span == 0:
        return torch.full_like(position, low)
    return high - ((position - low).remainder(2 * span) - span).abs()


def _padded(position: Tensor, size: int, mode: str) -> Tensor:
    """Move positions outside of ``size`` pixels to the source of the padding's value.

    ``reflection`` mirrors at the centers of the border pixels, ``symmetric`` at their outer edges:
    torch's "reflection" with and without align_corners, as coremltools' frontend translates it.
    """
    match mode:
        case "constant":
            # One pixel outside is enough: an infinite position would have no weights.
            return position.clamp(-1, size)
        case "border":
            pass
        case "reflection":
            position = _reflect(position, 0, size - 1)
        case "symmetric":
            position = _reflect(position, -0.5, size - 0.5)
        case _:
            raise ValueError(f"unknown padding_mode {mode!r}")
    return position.clamp(0, size - 1)


def _pixels(coordinate: Tensor, size: int, mode: str, align_corners: bool) -> Tensor:
    """Positions in pixels; 0 is the center of the first one."""
    match mode:
        case "unnormalized":
            return coordinate
        case "normalized_minus_one_to_one":
            share = (coordinate + 1) / 2
        case "normalized_zero_to_one":
            share = coordinate
        case _:
            raise ValueError(f"unknown coordinates_mode {mode!r}")
    return share * (size - 1) if align_corners else share * size - 0.5


# iOS16 and iOS17 only allow more dtypes for the coordinates.
@op("resample", sized=True)
def resample(
    *,
    x: Upcast,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    if coordinates.shape[0] != x.shape[0]:
        raise ValueError(f"coordinates for {coordinates.shape[0]} images, expected {x.shape[0]}")
    columns, rows = (
        _padded(_pixels(part, size, coordinates_mode, align_corners), size, padding_mode)
        for part, size in zip(
            coordinates.double().unbind(-1), (x.shape[3], x.shape[2]), strict=True
        )
    )
    which = torch.arange(x.shape[0])
    outside = padding_value if padding_mode == "constant" else None
    match sampling_mode:
        case "bilinear":
            # Pixels are blended with a constant border: the test for iOS15 has (11 + 6.17) / 2 half
            # a pixel outside.
            return _blend(x, which, rows, columns, outside)
        case "nearest":
            # Halves to the even pixel, after padding, as in torch and in the test for iOS15.
            rows, columns = rows.round().to(torch.int64), columns.round().to(torch.int64)
            return _pick(x, which, rows, columns, outside)
    raise ValueError(f"unknown sampling_mode {sampling_mode!r}")


@op("affine", sized=True)
def affine(
    *,
    x: Upcast,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    # coremltools accepts these names in upper and lower case.
    coordinates_mode = coordinates_mode.lower()
    if coordinates_mode != "normalized_minus_one_to_one":
        raise ValueError(f"unknown coordinates_mode {coordinates_mode!r}")
    if transform_matrix.shape[0] not in (1, x.shape[0]):
        raise ValueError(f"{transform_matrix.shape[0]} matrices, expected 1 or {x.shape[0]}")
    # The output's coordinates are normalized like the input's; a single pixel is at 0 (torch's
    # affine_grid, which together with grid_sample becomes this operation).
    ys, xs = (
        (2 * torch.arange(n, dtype=torch.float64) - (n - 1)) / max(n - 1 if align_corners else n, 1)
        for n in (output_height, output_width)
    )
    places = torch.stack(
        [
            xs.expand(output_height, -1),
            ys.unsqueeze(1).expand(-1, output_width),
            xs.new_ones(output_height, output_width),
        ],
        dim=-1,
    )
    matrices = transform_matrix.double().view(-1, 1, 2, 3).expand(x.shape[0], -1, -1, -1)
    return resample(
        x=x,
        coordinates=places @ matrices.mT,
        sampling_mode=sampling_mode.lower(),
        padding_mode=padding_mode.lower(),
        padding_value=padding_value,
        coordinates_mode=coordinates_mode,
        align_corners=align_corners,
    )


def _corners(boxes: Tensor, mode: str) -> tuple[Tensor, Tensor]:
    """First and last (row, column) of boxes ``[N, 4]``, each ``[N, 2]``."""
    first, second = boxes[:, :2], boxes[:, 2:]
    match mode:
        case "CORNERS_HEIGHT_FIRST" | "CORNERS_WIDTH_FIRST":
            pass
        case "CENTER_SIZE_HEIGHT_FIRST" | "CENTER_SIZE_WIDTH_FIRST":
            # A box's size is the distance of its corners, as of normalized boxes (1 = size - 1).
            first, second = first - second / 2, first + second / 2
        case _:
            raise ValueError(f"unknown box_coordinate_mode {mode!r}")
    return (first.flip(1), second.flip(1)) if "WIDTH_FIRST" in mode else (first, second)


def _within(boxes: Tensor, mode: str) -> Tensor:
    """Normalized boxes ``[N, 4]``, the whole image where they begin beyond it.

    coremltools' test against Core ML with UNALIGN_CORNERS expects that of the corners 2, 2, 1, 1
    (``ops/tests/iOS15/test_image_resizing.py``, ``TestCropResize``).
    """
    if "CORNERS_" not in mode:
        return boxes
    beyond = boxes[:, :2] > 1
    parts = boxes[:, :2].masked_fill(beyond, 0), boxes[:, 2:].masked_fill(beyond, 1)
    return torch.cat(parts, 1)


@op("crop_resize", since="iOS17", sized=True)
def crop_resize_17(
    *,
    x: Upcast,
    boxes: Tensor,
    box_indices: Tensor | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Tensor:
    which = torch.arange(len(boxes)) if box_indices is None else box_indices.to(torch.int64)
    if which.numel() and not 0 <= int(which.min()) <= int(which.max()) < x.shape[0]:
        raise IndexError(f"boxes in images {which.tolist()}, there are {x.shape[0]}")
    ends = torch.tensor(x.shape[-2:], dtype=torch.float64) - 1
    scale = ends * spatial_scale if normalized_coordinates else spatial_scale
    starts, stops = (c * scale for c in _corners(boxes.double(), box_coordinate_mode))
    rows, columns = (
        grid(sampling_mode, starts[:, k : k + 1], stops[:, k : k + 1], count)
        for k, count in enumerate((target_height, target_width))
    )
    rows, columns = torch.broadcast_tensors(rows.unsqueeze(2), columns.unsqueeze(1))
    inside = (rows >= 0) & (rows <= ends[0]) & (columns >= 0) & (columns <= ends[1])
    # Pixels are not blended with the padding: at row 3.9 of an image with rows 0 to 3, the test for
    # iOS16 expects pad_value, which is the extrapolation_value of tf.image.crop_and_resize.
    return torch.where(inside.unsqueeze(1), _blend(x, which, rows, columns, None), pad_value)


@op("crop_resize", since="iOS16", sized=True)
def crop_resize_16(
    *,
    x: Upcast,
    roi: Upcast,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Tensor:
    # [N, 1, 5, 1, 1] results in [N, 1, ...], as documented and as TensorFlow's frontend expects.
    # coremltools declares [N, B, ...], which matches one image only: with more, the loop raises.
    values = roi.flatten(1)
    images = x.shape[0]
    if values.shape[1] == 5:
        which, boxes, each = values[:, 0], values[:, 1:], 1
    else:
        which, boxes, each = (
            torch.arange(images).repeat(len(values)),
            values.repeat_interleave(images, 0),
            images,
        )
    if (normalized_coordinates, sampling_mode) == (True, "UNALIGN_CORNERS"):
        boxes = _within(boxes, box_coordinate_mode)
    crops = crop_resize_17(
        x=x,
        boxes=boxes,
        box_indices=which,
        target_height=target_height,
        target_width=target_width,
        normalized_coordinates=normalized_coordinates,
        spatial_scale=spatial_scale,
        box_coordinate_mode=box_coordinate_mode,
        sampling_mode=sampling_mode,
        pad_value=pad_value,
    )
    return crops.unflatten(0, (len(values), each))


@op("crop_resize", sized=True)
def crop_resize(
    *,
    x: Upcast,
    roi: Upcast,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    # Outside are zeros: TensorFlow's frontend has no other extrapolation_value before iOS16.
    return crop_resize_16(
        x=x,
        roi=roi,
        target_height=target_height,
        target_width=target_width,
        normalized_coordinates=normalized_coordinates,
        spatial_scale=spatial_scale,
        box_coordinate_mode=box_coordinate_mode,
        sampling_mode=sampling_mode,
    )
