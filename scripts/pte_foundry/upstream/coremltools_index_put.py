"""Writes several places of an axis at once: the ways in which models write their caches.

Stands against: coremltools 9.0
Repairs: two places that know one write only.
    The converter of ``index_put`` (``mil/frontend/torch/ops.py``) takes an index beside whole
    slices, ``held[:, :, positions] = new``, for a single place; ``index_copy_`` becomes the same.
    Several places are refused ("has rank 1 != other inputs rank 0"), and so are ``accumulate=True``
    and indices of different shapes.
    ``scatter_along_axis`` (``mil/ops/defs/iOS15/scatter_gather.py``) compares sizes that are known
    when the program runs as if they were numbers, and refuses a dynamic number of places.
Remove when: ``index_put`` no longer squeezes its indices, and ``scatter_along_axis.type_inference``
    compares sizes as ``gather_along_axis`` does.

Only calls that upstream refuses, or gets wrong, are converted here, so no other program changes.
One place is a ``slice_update``, which may run on the Neural Engine; several are a ``scatter``,
which may not.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from coremltools import target
from coremltools.converters.mil.frontend import _utils
from coremltools.converters.mil.frontend.torch import ops as frontend
from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Var, types
from coremltools.converters.mil.mil.block import is_current_opset_version_compatible_with
from coremltools.converters.mil.mil.ops.defs.iOS15 import scatter_gather
from coremltools.converters.mil.mil.types.symbolic import is_symbolic

from pte_foundry.upstream.coremltools_operators import converting
from pte_foundry.upstream.versions import require

for _owner, _function, _parameters in (
    (frontend, "index_put", "context node"),
    (frontend, "_get_inputs", "context node expected min_expected"),
    (frontend, "_get_kwinputs", "context node keyword default"),
    (_utils, "pymil_broadcast_to", "tensor shape name"),
    (
        _utils,
        "maybe_replace_symbols_with_source_tensor_shape_variables",
        "shape source_tensors",
    ),
    (_utils, "pymil_value_at", "x idx name before_op"),
    (scatter_gather.scatter_along_axis, "type_inference", "self"),
):
    require(_owner, _function, _parameters, patch=__name__)


@contextmanager
def several_places() -> Iterator[None]:
    """Within this context a write to several places of an axis is converted."""
    upstream = scatter_gather.scatter_along_axis.type_inference

    def type_inference(self: Any) -> Any:
        shapes = self.data.shape, self.indices.shape
        if not any(map(is_symbolic, shapes[1])):
            return upstream(self)
        axis = self.axis.val % self.data.rank
        for number, (size, other) in enumerate(zip(*shapes, strict=True)):
            known = not is_symbolic(size) and not is_symbolic(other)
            if number != axis and known and size != other:
                raise ValueError(f"data {shapes[0]} and indices {shapes[1]} differ beside the axis")
        return self.data.sym_type

    with (
        converting({"index_put": _convert}),
        patch.object(scatter_gather.scatter_along_axis, "type_inference", type_inference),
    ):
        yield


def _convert(context: Any, node: Any) -> None:
    inputs = frontend._get_inputs(context, node, expected=(3, 4))
    x, indices, values = inputs[:3]
    accumulate = inputs[3] if len(inputs) > 3 else False
    accumulate = frontend._get_kwinputs(context, node, "accumulate", default=[accumulate])[0]
    accumulate = accumulate.val if isinstance(accumulate, Var) else accumulate
    places = {axis: index for axis, index in enumerate(indices) if index is not None}
    if not _refused_by_upstream(indices, places, accumulate):
        frontend.index_put(context, node)
        return
    boolean = types.is_bool(x.dtype)
    if boolean:  # Core ML scatters no booleans
        x, values = mb.cast(x=x, dtype="int32"), mb.cast(x=values, dtype="int32")
    places = {axis: _from_the_start(x, axis, index) for axis, index in places.items()}
    mode = "add" if accumulate else "update"
    last = {} if boolean else {"name": node.name}
    if len(places) == 1 and next(iter(places.values())).rank == 1:
        ((axis, index),) = places.items()
        shape = (*x.shape[:axis], index.shape[0], *x.shape[axis + 1 :])
        updates = _broadcast(values, shape, [index, x])
        result = mb.scatter(data=x, indices=index, updates=updates, axis=axis, mode=mode, **last)
    else:
        result = _scattered(x, places, values, mode, last)
    context.add(mb.cast(x=result, dtype="bool", name=node.name) if boolean else result)


def _refused_by_upstream(indices: Sequence[Any], places: dict[int, Var], accumulate: bool) -> bool:
    if any(types.is_bool(index.dtype) for index in places.values()):
        return False
    shapes = [index.shape for index in places.values()]
    if len(places) == len(indices):
        return len(set(shapes)) > 1
    # There are whole slices. Upstream is right about one index of one place: not about two, whose
    # axes torch makes one, or moves to the front.
    return bool(accumulate) or len(shapes) > 1 or not shapes[0] or bool(set(shapes[0]) - {1})


def _from_the_start(x: Var, axis: int, index: Var) -> Var:
    """Negative positions counted from the start: from iOS17 on they are undefined."""
    if not is_current_opset_version_compatible_with(target.iOS17):
        return index
    if index.val is not None and (index.val >= 0).all():
        return index
    size = _size(x, axis)
    return mb.select(cond=mb.greater_equal(x=index, y=0), a=index, b=mb.add(x=index, y=size))


def _scattered(x: Var, places: dict[int, Var], values: Var, mode: str, last: dict) -> Var:
    """A write by several indices, with the indexed axes first and back again."""
    first, others = list(places), [axis for axis in range(x.rank) if axis not in places]
    moved = mb.transpose(x=x, perm=[*first, *others])
    zero = None
    for index in places.values():
        none = mb.mul(x=index, y=0)
        zero = none if zero is None else mb.add(x=zero, y=none)
    rank = max(index.rank for index in places.values())
    parts = [mb.add(x=index, y=zero) for index in places.values()]  # of one shape
    together = mb.stack(values=parts, axis=rank)
    # torch puts the indices' axes where the indexed ones are, or first if those are apart.
    adjacent = first == list(range(first[0], first[-1] + 1))
    start = first[0] if adjacent else 0
    sizes = [x.shape[axis] for axis in others]
    shape = (*sizes[:start], *together.shape[:-1], *sizes[start:])
    updates = _broadcast(values, shape, [together, x])
    if not rank:
        together, updates, rank = _first(together), _first(updates), 1
        start, shape = 0, (1, *shape)
    order = [*range(start, start + rank), *range(start), *range(start + rank, len(shape))]
    updates = mb.transpose(x=updates, perm=order)
    written = mb.scatter_nd(data=moved, indices=together, updates=updates, mode=mode)
    axes = [*first, *others]
    return mb.transpose(x=written, perm=[axes.index(axis) for axis in range(x.rank)], **last)


def _broadcast(values: Var, shape: Sequence[Any], sources: list[Var]) -> Var:
    """Values in a shape; sizes that are both unknown are equal, as torch.export has checked."""
    same = values.rank == len(shape) and all(
        size == other or (is_symbolic(size) and is_symbolic(other))
        for size, other in zip(values.shape, shape, strict=True)
    )
    if same:
        return values
    sizes = _utils.maybe_replace_symbols_with_source_tensor_shape_variables(shape, sources)
    return _utils.pymil_broadcast_to(values, sizes, f"{values.name}_broadcasted")


def _first(values: Var) -> Var:
    return mb.expand_dims(x=values, axes=[0])


def _size(x: Var, axis: int) -> Any:
    known = x.shape[axis]
    return _utils.pymil_value_at(mb.shape(x=x), axis) if is_symbolic(known) else int(known)
