"""ExecuTorch's scalar types as torch's dtypes.

``schema/scalar_type.fbs`` of executorch 1.5, the numbering of c10's ``ScalarType``. Core ML's MIL
numbers its types differently (:mod:`pte_foundry.formats.mil_dtypes`): they are different formats.
"""

import torch

# Quantized and bit types are left out: no value of a program has them.
DTYPES: dict[int, torch.dtype] = {
    0: torch.uint8,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.int64,
    5: torch.float16,
    6: torch.float32,
    7: torch.float64,
    11: torch.bool,
    15: torch.bfloat16,
    23: torch.float8_e5m2,
    24: torch.float8_e4m3fn,
    25: torch.float8_e5m2fnuz,
    26: torch.float8_e4m3fnuz,
    27: torch.uint16,
    28: torch.uint32,
    29: torch.uint64,
}
