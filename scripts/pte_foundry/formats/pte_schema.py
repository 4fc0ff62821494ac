"""The tables of a ``.pte``, as executorch 1.5's ``schema/program.fbs`` defines them.

Field order is the schema's: :mod:`pte_foundry.formats.flatbuffer` reads by position. A test
compares the result with upstream's own reader, and fails when the schema changes.
"""

from __future__ import annotations

from dataclasses import dataclass

from pte_foundry.formats.flatbuffer import Float64, Int8, Int32, Int64, UInt8, UInt32, UInt64

STATIC, DYNAMIC_BOUND, DYNAMIC_UNBOUND = 0, 1, 2
"""TensorShapeDynamism: ``sizes`` are exact, an upper bound, or an example."""

INLINE, SEGMENT = 0, 1
"""DataLocation: a delegate's data is in the flatbuffer, or in a segment behind it."""

EXTERNAL = 1
"""TensorDataLocation: the data is in another file (``.ptd``)."""


@dataclass
class ContainerMetadata:
    encoded_inp_str: str
    encoded_out_str: str


@dataclass
class Null:
    pass


@dataclass
class AllocationDetails:
    memory_id: UInt32
    memory_offset_low: UInt32
    memory_offset_high: UInt32

    @property
    def memory_offset(self) -> int:
        """Offset in bytes into the planned memory ``memory_id``."""
        return self.memory_offset_low | self.memory_offset_high << 32


@dataclass
class ExtraTensorInfo:
    mutable_data_segments_idx: UInt64
    fully_qualified_name: str
    location: Int8
    device_type: Int8
    device_index: Int8


@dataclass
class Tensor:
    """A tensor value.

    With data and no allocation it is a constant, with both a buffer with initial state, with an
    allocation alone memory for a computed value. ``sizes`` are in elements, outermost first;
    ``dim_order`` lists the dimensions from the outermost in memory to the innermost.
    """

    scalar_type: Int8
    storage_offset: Int32
    sizes: list[Int32]
    dim_order: list[UInt8]
    requires_grad: bool
    data_buffer_idx: UInt32
    allocation_info: AllocationDetails | None
    layout: Int8
    shape_dynamism: Int8
    extra_tensor_info: ExtraTensorInfo | None


@dataclass
class Int:
    int_val: Int64


@dataclass
class Bool:
    bool_val: bool


@dataclass
class Double:
    double_val: Float64


@dataclass
class String:
    string_val: str


@dataclass
class IntList:
    """Indices of values that hold the integers, some of them known only at run time."""

    items: list[Int64]


@dataclass
class DoubleList:
    items: list[Float64]


@dataclass
class BoolList:
    items: list[bool]


@dataclass
class TensorList:
    """Indices of tensor values."""

    items: list[Int32]


@dataclass
class OptionalTensorList:
    """Indices of tensor values; -1 for none."""

    items: list[Int32]


@dataclass
class EValue:
    val: (
        Null
        | Int
        | Bool
        | Double
        | Tensor
        | String
        | IntList
        | DoubleList
        | BoolList
        | TensorList
        | OptionalTensorList
        | None
    )


@dataclass
class Operator:
    name: str
    overload: str


@dataclass
class KernelCall:
    op_index: Int32
    args: list[Int32]


@dataclass
class DelegateCall:
    delegate_index: Int32
    args: list[Int32]


@dataclass
class MoveCall:
    move_from: Int32
    move_to: Int32


@dataclass
class JumpFalseCall:
    cond_value_index: Int32
    destination_instruction: Int32


@dataclass
class FreeCall:
    value_index: Int32


@dataclass
class Instruction:
    instr_args: KernelCall | DelegateCall | MoveCall | JumpFalseCall | FreeCall | None


@dataclass
class Frame:
    filename: str
    lineno: Int32
    name: str
    context: str


@dataclass
class FrameList:
    items: list[Frame]


@dataclass
class BackendDelegateDataReference:
    location: Int8
    index: UInt32


@dataclass
class CompileSpec:
    key: str
    value: bytes


@dataclass
class BackendDelegate:
    id: str
    processed: BackendDelegateDataReference | None
    compile_specs: list[CompileSpec]


@dataclass
class Chain:
    inputs: list[Int32]
    outputs: list[Int32]
    instructions: list[Instruction]
    stacktrace: list[FrameList]


@dataclass
class NonConstBufferDevice:
    buffer_idx: Int32
    device_type: Int8
    device_index: Int8


@dataclass
class ExecutionPlan:
    name: str
    container_meta_type: ContainerMetadata | None
    values: list[EValue]
    inputs: list[Int32]
    outputs: list[Int32]
    chains: list[Chain]
    operators: list[Operator]
    delegates: list[BackendDelegate]
    non_const_buffer_sizes: list[Int64]
    non_const_buffer_device: list[NonConstBufferDevice]


@dataclass
class Buffer:
    storage: bytes


@dataclass
class BackendDelegateInlineData:
    data: bytes


@dataclass
class DataSegment:
    offset: UInt64
    size: UInt64


@dataclass
class SubsegmentOffsets:
    segment_index: UInt32
    offsets: list[UInt64]


@dataclass
class NamedData:
    key: str
    segment_index: UInt32


@dataclass
class Program:
    version: UInt32
    execution_plan: list[ExecutionPlan]
    constant_buffer: list[Buffer]
    backend_delegate_data: list[BackendDelegateInlineData]
    segments: list[DataSegment]
    constant_segment: SubsegmentOffsets | None
    mutable_data_segments: list[SubsegmentOffsets]
    named_data: list[NamedData]
