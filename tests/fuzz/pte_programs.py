"""``.pte`` programs by hand, written by executorch's own serializer: kernels, jumps and values."""

from __future__ import annotations

from typing import Any

from executorch.exir import schema
from executorch.exir._serialize._program import PTEFile, serialize_pte_binary

STATIC, BOUND, UNBOUND = (
    schema.TensorShapeDynamism.STATIC,
    schema.TensorShapeDynamism.DYNAMIC_BOUND,
    schema.TensorShapeDynamism.DYNAMIC_UNBOUND,
)


def tensor(
    sizes: list[int],
    dtype: schema.ScalarType = schema.ScalarType.FLOAT,
    offset: int | None = None,
    dynamism: Any = STATIC,
    order: list[int] | None = None,
) -> schema.EValue:
    """A tensor; ``offset`` is its place in the planned memory, None if it has none."""
    return schema.EValue(
        schema.Tensor(
            scalar_type=dtype,
            storage_offset=0,
            sizes=sizes,
            dim_order=list(range(len(sizes))) if order is None else order,
            requires_grad=False,
            data_buffer_idx=0,
            allocation_info=None if offset is None else schema.AllocationDetails(1, offset, 0),
            layout=0,
            shape_dynamism=dynamism,
            extra_tensor_info=None,
        )
    )


def value(given: Any) -> schema.EValue:
    """A number, text or None as a value of a program; a list is one of indices."""
    match given:
        case None:
            return schema.EValue(schema.Null())
        case bool():
            return schema.EValue(schema.Bool(given))
        case int():
            return schema.EValue(schema.Int(given))
        case float():
            return schema.EValue(schema.Double(given))
        case str():
            return schema.EValue(schema.String(given))
        case list():
            return schema.EValue(schema.IntList(given))
    return given


def call(operator: int, *arguments: int) -> schema.Instruction:
    return schema.Instruction(schema.KernelCall(operator, list(arguments)))


def jump(condition: int, destination: int) -> schema.Instruction:
    return schema.Instruction(schema.JumpFalseCall(condition, destination))


def move(source: int, to: int) -> schema.Instruction:
    return schema.Instruction(schema.MoveCall(source, to))


def free(index: int) -> schema.Instruction:
    return schema.Instruction(schema.FreeCall(index))


def program(
    values: list[Any],
    operators: list[str],
    instructions: list[schema.Instruction],
    inputs: tuple[int, ...] = (),
    outputs: tuple[int, ...] = (),
    memory: int = 4096,
    method: str = "forward",
) -> bytes:
    """A program of one method without delegates; operators as ``aten::add.out``."""
    pairs = [name.partition(".")[::2] for name in operators]
    plan = schema.ExecutionPlan(
        name=method,
        container_meta_type=schema.ContainerMetadata("", ""),
        values=[value(v) for v in values],
        inputs=list(inputs),
        outputs=list(outputs),
        chains=[schema.Chain([], [], instructions, None)],
        operators=[schema.Operator(name, overload) for name, overload in pairs],
        delegates=[],
        non_const_buffer_sizes=[0, memory],
    )
    made = schema.Program(
        version=0,
        execution_plan=[plan],
        constant_buffer=[schema.Buffer(b"")],
        backend_delegate_data=[],
        segments=[],
        constant_segment=schema.SubsegmentOffsets(0, []),
        mutable_data_segments=None,
        named_data=None,
    )
    return bytes(serialize_pte_binary(PTEFile(made, None, None)))
