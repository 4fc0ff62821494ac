"""Shapes, dtypes, and constants."""

import torch

from pte_foundry.bench.operators.calls.inputs import booleans, integers, normal
from pte_foundry.upstream.torch_operators import operator

aten = torch.ops.aten
X = normal(2, 3, 4)
WEIGHT, BIAS = normal(5, 4), normal(5)


def constant_in_forward(x):
    return x + torch.tensor([1.0, 2.0, 3.0, 4.0])


def asserted(x):
    operator("aten._assert_tensor_metadata.default")(x, dtype=torch.float32)
    return x * 2


CALLS = [
    ("_to_copy", "float to int", lambda x: (x * 3).to(torch.int32), X),
    ("_to_copy", "float to bool", lambda x: x.to(torch.bool), torch.tensor([0.0, 0.3, -2.0])),
    ("_to_copy", "bool to float", lambda x: x.float() * 2, booleans(5)),
    ("_to_copy", "int to float", lambda x: x.float() / 2, integers(-9, 9, 5)),
    ("_to_copy", "int64 to int32", lambda x: x.int(), integers(-9, 9, 5)),
    ("_to_copy", "to half and back", lambda x: x.half().float(), X),
    ("_to_copy", "to double", lambda x: (x.double() * 2).float(), X),
    ("_assert_tensor_metadata", "", asserted, X),
    ("copy", "", lambda x, y: aten.copy(x, y), X, X * 2),
    ("copy", "broadcast, cast", lambda x, y: aten.copy(x, y), X, integers(0, 9, 4)),
    ("detach", "", lambda x: x.detach() + 1, X),
    ("clone", "", lambda x: x.clone(), X),
    ("lift_fresh_copy", "constant", constant_in_forward, X),
    ("type_as", "", lambda x, y: x.type_as(y), integers(0, 9, 5), X),
    ("numpy_T", "", lambda x: x.T, X[0]),
    ("_local_scalar_dense", "as a factor", lambda x, i: x * i.item(), X, torch.tensor(1)),
    ("_shape_as_tensor", "", lambda x: operator("aten._shape_as_tensor.default")(x) + 1, X),
    (
        "_reshape_from_tensor",
        "",
        lambda x: operator("aten._reshape_from_tensor.default")(x, torch.tensor([6, 4])),
        X,
    ),
    ("_unsafe_view", "", lambda x: operator("aten._unsafe_view.default")(x, [6, 4]), X),
    ("view", "minus one", lambda x: x.view(2, -1), X),
    ("reshape", "rank 6", lambda x: x.reshape(1, 2, 3, 1, 2, 2) * 2, X),
    ("permute", "negative", lambda x: x.permute(-1, 0, 1), X),
    ("transpose", "", lambda x: x.transpose(-1, 0), X),
    ("squeeze", "not one", lambda x: x.squeeze(1), X),
    ("unsqueeze", "negative", lambda x: x.unsqueeze(-2), X),
    ("expand", "", lambda x: x.expand(2, 3, 4), X[:, :1]),
    ("expand", "integers", lambda x: x.expand(3, -1), integers(0, 9, 1, 4)),
    ("repeat", "more dimensions", lambda x: x.repeat(2, 1, 3), X[0]),
    ("tile", "fewer dimensions", lambda x: x.tile(2), X),
    ("roll", "negative", lambda x: x.roll(-1, 1), X),
    ("roll", "flattened", lambda x: x.roll(2), X),
    ("roll", "booleans", lambda x: x.roll(1, 0), booleans(5)),
    ("clone", "booleans", lambda x: x.clone(), booleans(5)),
    ("roll", "several", lambda x: x.roll((1, -2), (0, 2)), X),
    ("flip", "negative", lambda x: x.flip((-1, 0)), X),
    ("flip", "booleans", lambda x: x.flip(0), booleans(5)),
    (
        "cat",
        "integers and floats",
        lambda x, y: torch.cat((x, y), -1),
        integers(0, 9, 2, 3),
        X[:, 0],
    ),
    ("concat", "", lambda x: torch.concat((x, x * 2), 1), X),
    ("split_copy", "", lambda x: torch.split_copy(x, 2, 1), X),
    ("cat", "booleans", lambda x: torch.cat((x, x)), booleans(3)),
    ("stack", "negative", lambda x: torch.stack((x, x * 2), -1), X),
    ("split", "uneven", lambda x: x.split(2, 1), X),
    ("split_with_sizes", "", lambda x: x.split((1, 3), -1), X),
    ("unbind", "", lambda x: x.unbind(1), X),
    ("tril", "diagonal", lambda x: x.tril(-1), X),
    ("triu", "diagonal", lambda x: x.triu(1), X),
    ("tril", "booleans", lambda x: x.tril(), torch.ones(4, 4, dtype=torch.bool)),
    ("tril", "integers", lambda x: x.tril(), integers(1, 9, 4, 4)),
    ("diagonal", "offset", lambda x: x.diagonal(1, 1, 2), X),
    (
        "einsum",
        "attention",
        lambda x, y: torch.einsum("bhqd,bhkd->bhqk", x, y),
        normal(1, 2, 3, 4),
        normal(1, 2, 5, 4),
    ),
    (
        "einsum",
        "outer product, sum",
        lambda x, y: torch.einsum("bi,bj->ij", x, y),
        normal(3, 4),
        normal(3, 2),
    ),
    (
        "einsum",
        "three",
        lambda x, y, z: torch.einsum("ij,jk,kl->il", x, y, z),
        normal(2, 3),
        normal(3, 4),
        normal(4, 2),
    ),
    ("meshgrid", "xy", lambda x, y: torch.meshgrid(x, y, indexing="xy"), normal(3), normal(4)),
    ("matmul", "integers", torch.matmul, integers(-9, 9, 2, 3).int(), integers(-9, 9, 3, 2).int()),
    ("matmul", "vector", torch.matmul, X, normal(4)),
    (
        "linear",
        "constant weight",
        lambda x: torch.nn.functional.linear(x, WEIGHT, BIAS),
        X,
    ),
    ("linear", "rank 1", torch.nn.functional.linear, normal(4), normal(5, 4)),
    (
        "addmm",
        "alpha, beta",
        lambda b, x, y: torch.addmm(b, x, y, beta=0.5, alpha=2),
        normal(5),
        normal(3, 4),
        normal(4, 5),
    ),
    (
        "baddbmm",
        "alpha, beta",
        lambda b, x, y: torch.baddbmm(b, x, y, beta=0.5, alpha=2),
        normal(2, 3, 5),
        X,
        normal(2, 4, 5),
    ),
    ("numel", "", lambda x: x * x.numel(), X),
    ("size", "", lambda x: x * x.size(1), X),
    ("dim", "", lambda x: x * x.dim(), X),
    ("is_floating_point", "", lambda x: x * x.is_floating_point(), X),
]
