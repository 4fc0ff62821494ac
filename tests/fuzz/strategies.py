"""Random programs that are nearly right: operations with arguments of the kinds that they take.

A program of random bytes ends at the first check of a loader. These get to the operations: each
argument has the annotated kind, with values at the edges of what it may be. Some are then damaged.
"""

from __future__ import annotations

import random
import struct
from functools import cache
from typing import Any, get_args, get_type_hints

from executorch.exir.schema import ScalarType
from hypothesis import strategies as st
from pte_foundry.formats import pte_schema
from pte_foundry.mil import ops, parameters, registry
from pte_foundry.pte.kernels import find_kernel
from pte_foundry.upstream import executorch_kernels, torch_operators, torch_quantized_operators

from tests.fuzz import mil_programs, pte_programs
from tests.fuzz.cases import join

_INTS = [0, 0, 1, 1, 1, 2, 2, 3, 4, -1, -1, -2, -3, 7, 64, 1000, 2**31 - 1, -(2**31)]
_LONGS = [*_INTS, 2**31, 2**62, -(2**63), 2**63 - 1]
_FLOATS = [0.0, 0.5, 1.0, 2.0, -1.0, 1e-5, 1e30, float("nan"), float("inf"), -float("inf")]
_MODES = """
    constant reflect replicate valid custom same same_lower LINEAR NEAREST_NEIGHBOR DEFAULT bilinear
    ALIGN_CORNERS STRICT_ALIGN_CORNERS UNALIGN_CORNERS OFFSET_CORNERS EXACT TANH_APPROXIMATION fp16
    SIGMOID_APPROXIMATION int32 fp32 bool int8 uint8 zeros border update add mul min max logits
    probs forward reverse bidirectional tanh sigmoid relu hard_sigmoid linear none floor trunc
    CORNERS_HEIGHT_FIRST CENTER_SIZE_WIDTH_FIRST normalized_minus_one_to_one unnormalized
    """
_TEXTS = [*_MODES.split(), "", "\x1b[2J", "a" * 300]


def programs(kind: str) -> st.SearchStrategy[bytes]:
    """Files of one kind, "mil" or "pte", for ``cases.run``."""
    make = {"mil": _mil, "pte": _pte}[kind]
    return st.randoms(use_true_random=True).map(lambda r: _damaged(r, make(r)))


def _damaged(r: random.Random, data: bytes) -> bytes:
    if r.random() < 0.75:
        return data
    changed = bytearray(data)
    for _ in range(r.choice([1, 1, 2, 4])):
        at = r.randrange(len(changed))
        match r.randrange(3):
            case 0:
                changed[at] = r.randrange(256)
            case 1:
                word = struct.pack("<I", r.choice([0, 1, 4, 8, 2**31, 2**32 - 1, len(data)]))
                changed[at & ~3 : (at & ~3) + 4] = word
            case _:
                changed[at:at] = changed[r.randrange(len(changed)) :][: r.randrange(32)]
    return bytes(changed)


def _shape(r: random.Random, big: float = 0.05) -> list[int]:
    sizes = [0, 1, 1, 2, 2, 3, 4, 5] if r.random() > big else [1, 100, 1000, 2**20, 2**31 - 1]
    return [r.choice(sizes) for _ in range(r.choice([0, 1, 1, 2, 3, 4, 4, 5]))]


# Core ML


@cache
def _hints(function: Any) -> dict[str, Any]:
    return get_type_hints(function, include_extras=True)


_NAMES = sorted(registry.known())
_BITS = {"FLOAT32": 4, "FLOAT16": 2, "INT32": 4, "BOOL": 1, "INT8": 1, "UINT8": 1}


def _mil(r: random.Random) -> bytes:
    opset = r.choice(list(mil_programs.OPSETS))
    made = mil_programs.MilProgram(opset)
    for name in ("x", "z")[: r.choice([1, 2])]:
        dtype = r.choice(["FLOAT32", "FLOAT32", "FLOAT16", "INT32"])
        made.input(name, dtype, [n if r.random() < 0.9 else None for n in _shape(r)])
    values = [("x", "FLOAT32")]
    if r.random() < 0.2:
        made.blob("w", "FLOAT32", [2, 3])
        made.weights = mil_programs.weight_file((2, r.choice([24] * 8 + [0, 2**40]), 128))
        values.append(("w", "FLOAT32"))
    for number in range(r.choice([1, 1, 2, 3, 5])):
        _operation(r, made, registry.OPSETS[opset], values, f"v{number}")
    made.end(*{r.choice(values)[0] for _ in range(2)})
    return join(made.bytes(), made.weights)


def _operation(
    r: random.Random, made: Any, opset: str, values: list, name: str, block: Any = None
) -> None:
    kind = r.choice(_NAMES)
    kernel = registry.find(kind, opset)
    if kernel is None:
        return
    inputs, dtype = {}, "FLOAT32"
    for key, parameter in kernel.parameters.items():
        if parameter.implicit or r.random() > (0.98 if parameter.required else 0.4):
            continue
        given = _argument(r, _hints(kernel.run)[key], values)
        if given is not None:
            inputs[key] = given
            dtype = dict(values).get(given, dtype) if isinstance(given, str) else dtype
    if r.random() < 0.1:
        dtype = r.choice(list(_BITS))
    outputs = [
        (f"{name}{suffix}", dtype, _shape(r) if r.random() < 0.2 else None)
        for suffix in ["", "b", "c"][: r.choice([1, 1, 1, 2, 3])]
    ]
    operation = made.op(kind, outputs, block, **inputs)
    if any(p.blocks for p in kernel.parameters.values()):
        for _ in range(2):
            inner = made.body(operation, [(f"{name}i", "FLOAT32", None)] * (kind == "while_loop"))
            inside = [*values, (f"{name}i", "FLOAT32")]
            _operation(r, made, opset, inside, f"{name}n{len(operation.blocks)}", inner)
            inner.outputs.append(inside[-1][0] if inner.operations else r.choice(inside)[0])
    values.extend((output, dtype) for output, dtype, _ in outputs)


def _argument(r: random.Random, hint: Any, values: list) -> Any:
    kinds = [hint, *get_args(hint)]
    if parameters.Tensors in kinds or parameters.UpcastTensors in kinds:
        return [r.choice(values)[0] for _ in range(r.choice([1, 2, 2, 3]))]
    if parameters.TensorsOrLists in kinds:
        return [r.choice(values)[0]]
    if parameters.SymbolicShape in kinds:
        return [mil_programs.number(r.choice(_INTS)) for _ in range(r.choice([0, 1, 2]))]
    if parameters.Ints in kinds:
        return mil_programs.ints(*[r.choice(_INTS) for _ in range(r.choice([0, 1, 2, 2, 3, 4]))])
    if parameters.Bools in kinds:
        flags = [r.random() < 0.5 for _ in range(r.choice([1, 2, 4]))]
        return "BOOL", flags, (len(flags),)
    if bool in kinds:
        return "BOOL", [r.random() < 0.5], ()
    if int in kinds:
        return mil_programs.number(r.choice(_INTS))
    if float in kinds:
        return mil_programs.number(r.choice(_FLOATS))
    if str in kinds:
        return "STRING", [r.choice(_TEXTS)], ()
    if r.random() < 0.7:
        return r.choice(values)[0]
    return _constant(r)


def _constant(r: random.Random) -> tuple:
    shape = [min(size, 6) for size in _shape(r)]
    dtype, count = r.choice(list(_BITS)), 1
    for size in shape:
        count *= size
    if dtype in ("FLOAT32", "INT32", "BOOL"):
        pool = {"FLOAT32": _FLOATS, "INT32": _INTS, "BOOL": [True, False]}[dtype]
        return dtype, [r.choice(pool) for _ in range(count)], tuple(shape)
    return dtype, r.randbytes(count * _BITS[dtype]), tuple(shape)


# ExecuTorch


@cache
def _kernels() -> tuple[tuple[str, tuple[tuple[str, bool], ...]], ...]:
    """Every kernel that can be called, with the kinds of its arguments and which are results."""
    torch_quantized_operators.register()
    found = []
    for full in sorted(executorch_kernels.kernels()):
        name, _, overload = full.partition(".")
        if find_kernel(pte_schema.Operator(name, overload)) is None:
            continue
        namespace, _, plain = name.partition("::")
        wanted = overload or "default"
        if namespace == "quantized_decomposed":
            wanted = {"out": "default", "Tensor_out": "tensor"}.get(overload, "")
        operator = torch_operators.find(namespace, plain, wanted)
        kinds: tuple[tuple[str, bool], ...] = (("number", False),) * 2
        if operator is not None:
            arguments = torch_operators.schema(operator).arguments
            kinds = tuple((str(a.real_type), a.is_out) for a in arguments)
        found.append((full, kinds))
    return tuple(found)


_DTYPES = [ScalarType.FLOAT] * 6 + [ScalarType.LONG] * 3 + [
    ScalarType.BYTE, ScalarType.CHAR, ScalarType.INT, ScalarType.HALF, ScalarType.DOUBLE,
    ScalarType.BOOL, ScalarType.BFLOAT16,
]  # fmt: skip


class _Values:
    def __init__(self, r: random.Random) -> None:
        self.r = r
        self.held: list[Any] = []
        self.tensors: list[int] = []

    def add(self, value: Any) -> int:
        self.held.append(value)
        return len(self.held) - 1

    def tensor(self, result: bool = False) -> int:
        r = self.r
        if self.tensors and r.random() < (0.1 if result else 0.6):
            return r.choice(self.tensors)
        sizes = _shape(r, 0.02)
        order = list(range(len(sizes)))
        if r.random() < 0.2:
            r.shuffle(order)
        dtype = r.choice(_DTYPES)
        if result:
            made = pte_programs.tensor(sizes, dtype, None, pte_programs.UNBOUND, order)
        else:
            place = r.choice([0, 64, 1 << 12, 1 << 14, 1 << 16, None])
            kinds = [pte_programs.STATIC] * 4 + [pte_programs.BOUND]
            made = pte_programs.tensor(sizes, dtype, place, r.choice(kinds), order)
        self.tensors.append(self.add(made))
        return self.tensors[-1]

    def of(self, kind: str, result: bool) -> int:
        r = self.r
        if kind.startswith("Optional["):
            return self.add(None) if r.random() < 0.35 else self.of(kind[9:-1], result)
        if kind.startswith("List["):
            count = r.choice([0, 1, 1, 2, 2, 3, 4])
            return self._list(kind[5:-1], count)
        match kind:
            case "Tensor":
                return self.tensor(result)
            case "number":
                return self.add(r.choice([r.choice(_LONGS), r.choice(_FLOATS), True, "ab", None]))
            case "int":
                return self.add(r.choice(_LONGS))
            case "float":
                return self.add(r.choice(_FLOATS))
            case "bool":
                return self.add(r.random() < 0.5)
            case "str":
                return self.add(r.choice(_TEXTS))
            case "ScalarType":
                return self.add(r.choice([0, 3, 4, 5, 6, 7, 11, 15, 99, -1]))
        return self.add(r.choice([None, 0, 0, 1]))

    def _list(self, kind: str, count: int) -> int:
        schema = pte_programs.schema
        if "Tensor" in kind:
            items = [self.tensor() for _ in range(count)]
            optional = kind.startswith("Optional")
            made = schema.OptionalTensorList if optional else schema.TensorList
            return self.add(schema.EValue(made(items)))
        if kind == "int":
            return self.add([self.add(self.r.choice(_INTS)) for _ in range(count)])
        if kind == "bool":
            return self.add(schema.EValue(schema.BoolList([True] * count)))
        return self.add(schema.EValue(schema.DoubleList([1.0] * count)))


def _pte(r: random.Random) -> bytes:
    values, operators, instructions = _Values(r), [], []
    for _ in range(r.choice([1, 1, 1, 2, 3])):
        name, kinds = r.choice(_kernels())
        arguments = [values.of(kind, result) for kind, result in kinds]
        arguments += [values.tensor(True) for _ in range(r.choice([0, 1, 1, 1, 2]))]
        if name.startswith(("executorch_prim", "aten::sym")) and r.random() < 0.8:
            arguments[-1] = values.add(r.choice([None, 0, False]))
        instructions.append(pte_programs.call(len(operators), *arguments))
        operators.append(name)
    anything = range(len(values.held))
    if r.random() < 0.15:
        extra = r.choice(
            [
                pte_programs.jump(r.choice(anything), r.randrange(len(instructions) + 2)),
                pte_programs.move(r.choice(anything), r.choice(anything)),
                pte_programs.free(r.choice(anything)),
            ]
        )
        instructions.insert(r.randrange(len(instructions) + 1), extra)
    inputs = tuple(i for i in values.tensors if r.random() < 0.5)
    outputs = tuple(r.choice(anything) for _ in range(r.choice([1, 1, 2])))
    memory = r.choice([1 << 20] * 20 + [4096, 0, 1 << 40, -1])
    try:
        return pte_programs.program(values.held, operators, instructions, inputs, outputs, memory)
    except Exception:  # executorch's writer has no such program
        return b"ET12"


assert ops  # registers the operations
