"""Gathering, scattering, sorting, reductions over indices."""

import torch
from torch.nn import functional as F

from pte_foundry.bench.operators.calls.inputs import booleans, distinct, integers, normal
from pte_foundry.upstream.torch_operators import operator

ROWS = integers(0, 4, 5)
TABLE = normal(40_000, 2)
IDS = torch.tensor([[0, 32_768, 39_999], [7, 33_000, 1]])
X = normal(4, 6)


def put(accumulate):
    return lambda x, i, v: x.index_put((i,), v, accumulate)


def set_slice(x, v):
    y = x.clone()
    y[:, 1:3] = v
    return y


CALLS = [
    ("embedding", "", F.embedding, ROWS, X),
    ("embedding", "40,000 rows", lambda i: F.embedding(i, TABLE), IDS),
    ("embedding", "int32 ids", F.embedding, ROWS.int(), X),
    (
        "gather",
        "ids above 32,767",
        lambda x, i: x.gather(0, i),
        TABLE[:, :1].contiguous(),
        IDS.reshape(-1, 1),
    ),
    (
        "gather",
        "of large integers",
        lambda x, i: x.gather(1, i),
        integers(0, 100_000, 4, 6),
        integers(0, 6, 4, 3),
    ),
    ("gather", "negative dimension", lambda x, i: x.gather(-2, i), X, integers(0, 4, 2, 6)),
    ("index", "list", lambda x, i: x[i], X, ROWS),
    ("index", "second dimension", lambda x, i: x[:, i], X, integers(0, 6, 3)),
    ("index", "two tensors", lambda x, i, j: x[i, j], X, integers(0, 4, 3), integers(0, 6, 3)),
    ("index", "negative", lambda x, i: x[i], X, torch.tensor([-1, 0, -4])),
    ("index", "broadcast", lambda x, i, j: x[i, j], X, integers(0, 4, 3, 1), integers(0, 6, 1, 2)),
    ("index", "booleans", lambda x, m: x[m].sum(), X, booleans(4, 6)),
    ("index", "of integers", lambda x, i: x[i], integers(0, 100_000, 6), ROWS),
    ("_unsafe_index", "", lambda x, i: operator("aten._unsafe_index.Tensor")(x, [i]), X, ROWS),
    ("index_put", "rows", put(False), X, torch.tensor([2, 0]), normal(2, 6)),
    ("index_put", "added", put(True), X, torch.tensor([2, 0, 2]), normal(3, 6)),
    ("index_put", "scalar", put(False), X, torch.tensor([1, 3]), torch.tensor(5.0)),
    ("index_put", "booleans", lambda x, m: x.index_put((m,), torch.tensor(5.0)), X, booleans(4, 6)),
    ("index_put", "negative", put(False), X, torch.tensor([-1, 0]), normal(2, 6)),
    ("index_put", "slice", set_slice, X, normal(4, 2)),
    ("index_select", "", lambda x, i: x.index_select(1, i), X, integers(0, 6, 3)),
    (
        "scatter",
        "source",
        lambda x, i, v: x.scatter(1, i, v),
        X,
        torch.tensor([[0, 5], [1, 2]]),
        normal(2, 2),
    ),
    ("scatter", "value", lambda x, i: x.scatter(0, i, 3.0), X, torch.tensor([[0, 3], [1, 2]])),
    (
        "scatter",
        "add",
        lambda x, i, v: x.scatter(1, i, v, reduce="add"),
        X,
        torch.tensor([[0, 0], [1, 2]]),
        normal(2, 2),
    ),
    (
        "scatter_add",
        "repeated",
        lambda x, i, v: x.scatter_add(1, i, v),
        X,
        torch.tensor([[0, 0], [1, 2]]),
        normal(2, 2),
    ),
    ("select", "negative", lambda x: x.select(1, -1), X),
    ("select_copy", "", lambda x: torch.select_copy(x, 0, 2), X),
    ("slice", "step", lambda x: x[1:, ::2], X),
    ("slice", "negative", lambda x: x[-3:-1], X),
    ("slice", "beyond the end", lambda x: x[2:99], X),
    ("slice_copy", "step", lambda x: torch.slice_copy(x, 1, 1, 6, 2), X),
    ("slice_scatter", "step", lambda x, v: torch.slice_scatter(x, v, 1, 0, 6, 2), X, normal(4, 3)),
    ("select_scatter", "negative", lambda x, v: torch.select_scatter(x, v, 1, -2), X, normal(4)),
    ("argmax", "", lambda x: x.argmax(1), distinct(4, 6)),
    ("argmax", "all", torch.argmax, distinct(4, 6)),
    ("argmax", "keepdim", lambda x: x.argmax(0, keepdim=True), distinct(4, 6)),
    ("argmin", "", lambda x: x.argmin(-1), distinct(4, 6)),
    ("argmin", "integers", lambda x: x.argmin(-1), (distinct(4, 6) * 8).int()),
    ("argsort", "descending", lambda x: x.argsort(1, descending=True), distinct(4, 6)),
    ("argsort", "first dimension", lambda x: x.argsort(0), distinct(4, 6)),
    ("sort", "descending", lambda x: x.sort(1, descending=True), distinct(4, 6)),
    ("sort", "first dimension", lambda x: x.sort(0), distinct(4, 6)),
    ("sort", "of large integers", lambda x: x.sort(), torch.tensor([70_000, 3, 40_000, -5])),
    ("topk", "", lambda x: x.topk(3), distinct(4, 6)),
    ("topk", "smallest", lambda x: x.topk(2, 0, largest=False), distinct(4, 6)),
    ("topk", "of large integers", lambda x: x.topk(2), torch.tensor([70_000, 3, 40_000, -5])),
    ("max", "with indices", lambda x: x.max(1), distinct(4, 6)),
    ("max", "large integers", torch.max, torch.tensor([70_000, 3, 40_001])),
    ("max", "booleans", lambda x: (x.max(), torch.max(x, x.flip(0))), booleans(3, 4)),
    ("amax", "booleans", lambda x: x.amax(0), booleans(3, 4)),
    ("amin", "booleans", lambda x: x.amin(1), booleans(3, 4)),
    ("argsort", "booleans", torch.argsort, torch.tensor([True, False])),
    ("min", "booleans", lambda x: x.min(), booleans(3, 4)),
    ("index_select", "of booleans", lambda x, i: x.index_select(0, i), booleans(4, 6), ROWS),
    ("index", "of booleans", lambda x, i: x[i], booleans(4, 6), ROWS),
    ("gather", "of booleans", lambda x, i: x.gather(1, i), booleans(4, 6), integers(0, 6, 4, 3)),
    ("min", "with indices, keepdim", lambda x: x.min(0, keepdim=True), distinct(4, 6)),
    ("one_hot", "", lambda i: F.one_hot(i, 6), ROWS),
    ("one_hot", "as floats", lambda i: F.one_hot(i, 6).float(), ROWS),
    ("nonzero", "", torch.nonzero, booleans(3, 4)),
    ("nonzero_numpy", "", lambda x: torch.nonzero(x, as_tuple=True), booleans(3, 4)),
    ("searchsorted", "left", torch.searchsorted, distinct(8).sort()[0], distinct(5)),
    (
        "searchsorted",
        "right",
        lambda s, v: torch.searchsorted(s, v, right=True),
        distinct(8).sort()[0],
        distinct(8),
    ),
    ("_unique2", "", torch.unique, integers(0, 4, 8)),
    ("cumsum", "integers", lambda x: x.cumsum(0), integers(0, 9_000, 20)),
    ("cumsum", "booleans", lambda x: x.cumsum(-1), booleans(3, 8)),
    ("sum", "large integers", lambda x: x.sum(), integers(0, 9_000, 20)),
    ("sum", "booleans", lambda x: x.sum(-1), booleans(3, 8)),
    ("mean", "dtype", lambda x: x.mean(0, dtype=torch.float32), integers(0, 9, 4, 3)),
    ("any", "floats", lambda x: x.any(1), torch.eye(3)),
    ("all", "integers", lambda x: x.all(-1, keepdim=True), integers(0, 3, 4, 2)),
    ("var", "biased", lambda x: x.var(1, unbiased=False), X),
    ("var", "no correction", lambda x: torch.ops.aten.var.correction(x, [1]), X),
    ("std", "no correction, all", lambda x: torch.ops.aten.std.correction(x), X),
    ("var", "correction 2", lambda x: x.var(1, correction=2), X),
    ("var", "far from zero", lambda x: (x + 100).var(1), X),
    ("std", "keepdim", lambda x: x.std(-1, keepdim=True), X),
    ("std", "two dimensions, biased", lambda x: x.std((0, 2), unbiased=False), normal(2, 3, 4)),
    ("norm", "", torch.norm, X),
    ("linalg_vector_norm", "inf", lambda x: torch.linalg.vector_norm(x, float("inf"), dim=1), X),
    ("linalg_vector_norm", "zero", lambda x: torch.linalg.vector_norm(x, 0, dim=1), torch.eye(3)),
    ("linalg_vector_norm", "large", lambda x: torch.linalg.vector_norm(x, dim=1), X * 200),
    ("logsumexp", "wide range", lambda x: x.logsumexp(1), X * 30),
    ("_logcumsumexp", "", lambda x: operator("aten._logcumsumexp.default")(x, 1), X * 60),
    ("logcumsumexp", "", lambda x: x.logcumsumexp(1), X),
    ("repeat_interleave", "number", lambda x: x.repeat_interleave(2, 1), X),
    ("repeat_interleave", "flattened", lambda x: x.repeat_interleave(3), X),
    (
        "repeat_interleave",
        "numbers",
        lambda x: x.repeat_interleave(torch.tensor([1, 0, 2, 3]), 0),
        X,
    ),
]
