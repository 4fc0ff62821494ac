"""MIL's data types: their names, sizes and the torch dtypes that hold them.

MIL (``DataType`` in coremltools 9.0's ``MIL.proto``) numbers its types differently from ExecuTorch
(:mod:`pte_foundry.pte.scalar_types`), and has strings and sub-byte integers, which ExecuTorch
lacks: the two tables describe different formats.
"""

from dataclasses import dataclass

import torch

from pte_foundry.upstream.coremltools_protobuf import MIL_pb2

# The limit on a declared size, beyond which a program counts as damaged. The largest weight of a
# large language model (a vocabulary of 256k times 8k) has 2**31 elements.
MAX_ELEMENTS = 2**32


@dataclass(frozen=True)
class DType:
    """One of MIL's data types.

    Attributes:
        name: as MIL's text form and the ``dtype`` arguments of operations write it: "fp16".
        bits: of one element in a file; 0 for strings.
        torch: the dtype that holds values. Types below eight bits are held in the next byte type:
            only weights have them, and only ``constexpr_*`` operations read them. None for strings,
            which are held as Python strings.
    """

    name: str
    bits: int
    torch: torch.dtype | None


_TABLE = [
    ("BOOL", "bool", 8, torch.bool),
    ("STRING", "string", 0, None),
    ("FLOAT16", "fp16", 16, torch.float16),
    ("FLOAT32", "fp32", 32, torch.float32),
    ("FLOAT64", "fp64", 64, torch.float64),
    ("BFLOAT16", "bf16", 16, torch.bfloat16),
    ("FLOAT8E4M3FN", "fp8e4m3fn", 8, torch.float8_e4m3fn),
    ("FLOAT8E5M2", "fp8e5m2", 8, torch.float8_e5m2),
    ("INT4", "int4", 4, torch.int8),
    ("INT8", "int8", 8, torch.int8),
    ("INT16", "int16", 16, torch.int16),
    ("INT32", "int32", 32, torch.int32),
    ("INT64", "int64", 64, torch.int64),
    ("UINT1", "uint1", 1, torch.uint8),
    ("UINT2", "uint2", 2, torch.uint8),
    ("UINT3", "uint3", 3, torch.uint8),
    ("UINT4", "uint4", 4, torch.uint8),
    ("UINT6", "uint6", 6, torch.uint8),
    ("UINT8", "uint8", 8, torch.uint8),
    ("UINT16", "uint16", 16, torch.uint16),
    ("UINT32", "uint32", 32, torch.uint32),
    ("UINT64", "uint64", 64, torch.uint64),
]
DTYPES = {
    MIL_pb2.DataType.Value(proto): DType(name, bits, held) for proto, name, bits, held in _TABLE
}
BY_NAME = {dtype.name: dtype for dtype in DTYPES.values()}
