"""Description of a ``.pte``."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pte_foundry.errors import ProgramError
from pte_foundry.formats import pte_schema
from pte_foundry.formats.constant_methods import constants
from pte_foundry.formats.coreml_delegate import BACKEND, CoreMLModel, parse_json, resolve
from pte_foundry.formats.mil_contents import compute_dtypes, count_ops, weigh
from pte_foundry.formats.mlpackage import body_of
from pte_foundry.formats.pte_file import PteFile, read_pte
from pte_foundry.formats.shared_weights import shared_weights

_JSON_SPECS = ("op_linear_quantizer_config", "pass_pipeline", "enumerated_shapes")


@dataclass(frozen=True)
class DelegateDescription:
    """A delegate of a method.

    Attributes:
        method: the method that calls the delegate.
        backend_id: for example ``CoreMLBackend``.
        bytes: size of the delegate's data, the reference alone if methods share a model.
        identifier: key of Core ML's compile cache; None for other backends.
        compile_specs: decoded to strings, numbers and JSON; in hexadecimal for other backends.
            ``min_deployment_target`` is a specification version, or None if it was not set.
        specification_version: of the model; None for other backends and compiled models.
        ops: number of operations by type, nested blocks included, constants left out.
        weight_bytes: bytes in ``weight.bin`` by MIL dtype ("float16", "int4", …).
        compute_dtypes: float dtypes in which operations compute.
        states: names of the model's states.
        handles: number of torch operators in the delegate; 0 if unknown.
    """

    method: str
    backend_id: str
    bytes: int
    identifier: str | None
    compile_specs: dict[str, Any]
    specification_version: int | None
    ops: dict[str, int]
    weight_bytes: dict[str, int]
    compute_dtypes: tuple[str, ...]
    states: tuple[str, ...]
    handles: int


@dataclass(frozen=True)
class Description:
    """A program.

    Attributes:
        bytes: size of the file.
        methods: their names, those of constants left out.
        constants: value of each method that does nothing but return constants.
        delegates: of all methods, in the order of the program.
        kernels: number of calls of operators outside of delegates, by name.
        delegated_fraction: the share of the program's torch operators that delegates compute. A
            delegate counts as the number of its distinct debug handles, or of its operations if it
            has none (multifunction models). Outside, each kernel call counts as one, except calls
            on shapes and scalars, and the copies that ExecuTorch adds to store the new values of
            its buffers. 1.0 for a program that calls nothing.
        output_names: by method, the names of its outputs, if they have any.
        weight_bytes: of all delegates, by dtype; the weights that methods share once.
    """

    bytes: int
    methods: tuple[str, ...]
    constants: dict[str, Any]
    delegates: tuple[DelegateDescription, ...]
    kernels: dict[str, int]
    delegated_fraction: float
    output_names: dict[str, list[str]]
    weight_bytes: dict[str, int]

    @property
    def specification_version(self) -> int | None:
        """The newest specification version among the delegates; None if no delegate has one."""
        versions = [d.specification_version for d in self.delegates if d.specification_version]
        return max(versions, default=None)

    @property
    def ops(self) -> dict[str, int]:
        """Number of operations of all delegates, by type."""
        return _total(delegate.ops for delegate in self.delegates)

    @property
    def unshared_bytes(self) -> int | None:
        """Bytes that the weights would take if methods shared none; None if they share none."""
        total = sum(sum(delegate.weight_bytes.values()) for delegate in self.delegates)
        return total if total != sum(self.weight_bytes.values()) else None

    @property
    def states(self) -> tuple[str, ...]:
        """Names of the states of all delegates."""
        return tuple(state for delegate in self.delegates for state in delegate.states)

    def to_dict(self) -> dict[str, Any]:
        """The description as a dict of JSON types, totals over the delegates included."""
        names = ("specification_version", "ops", "unshared_bytes", "states")
        return asdict(self) | {name: getattr(self, name) for name in names}


def describe(source: bytes | Path) -> Description:
    """Describe a program, given its bytes or its path.

    Raises ProgramError if it is malformed; OSError if it cannot be read.
    """
    file = read_pte(source)
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    known: dict[str, CoreMLModel] = {}
    called = [
        (plan.name, delegate, resolve(file, delegate, known) if delegate.id == BACKEND else None)
        for plan in file.program.execution_plan
        for delegate in plan.delegates
    ]
    delegates = tuple(_describe_delegate(file, *one) for one in called)
    models = [model for *_, model in called]
    alone = [
        delegate.weight_bytes
        for delegate, model in zip(delegates, models, strict=True)
        if model is None or model[0].shared_key is None
    ]
    kernels = _kernels(file.program)
    inside = sum(delegate.handles or sum(delegate.ops.values()) for delegate in delegates)
    outside = sum(count for name, count in kernels.items() if not _computes_nothing(name))
    total = inside + outside
    known_values = constants(file.program)
    return Description(
        bytes=size,
        methods=tuple(name for name in file.plans if name not in known_values),
        constants=known_values,
        delegates=delegates,
        kernels=kernels,
        delegated_fraction=inside / total if total else 1.0,
        output_names={p.name: n for p in file.program.execution_plan if (n := _output_names(p))},
        weight_bytes=_total([*alone, *shared_weights(filter(None, models))]),
    )


def _describe_delegate(
    file: PteFile,
    method: str,
    delegate: pte_schema.BackendDelegate,
    called: tuple[CoreMLModel, str] | None,
) -> DelegateDescription:
    size = len(file.delegate_data(delegate))
    decode = _decode if delegate.id == BACKEND else _raw
    specs = {spec.key: decode(spec) for spec in delegate.compile_specs}
    ops: dict[str, int] = {}
    weights: dict[str, int] = {}
    dtypes: tuple[str, ...] = ()
    identifier, version, states, handles = None, None, (), 0
    if called is not None:
        model, function = called
        identifier = model.metadata.get("identifier")
        handles = len(model.handles())
        if not model.compiled:
            version = model.spec.specificationVersion
            body = model.spec.mlProgram.functions.get(function)
            if body is None:
                raise ProgramError(f"the Core ML model has no function {function!r}")
            states = tuple(i.name for i in body.inputs if i.type.WhichOneof("type") == "stateType")
            block = body_of(body)
            ops, weights, dtypes = count_ops(block), weigh(block), compute_dtypes(block)
    return DelegateDescription(
        method=method,
        backend_id=delegate.id,
        bytes=size,
        identifier=identifier,
        compile_specs=specs,
        specification_version=version,
        ops=ops,
        weight_bytes=weights,
        compute_dtypes=dtypes,
        states=states,
        handles=handles,
    )


def _decode(spec: pte_schema.CompileSpec) -> Any:
    if spec.key in _JSON_SPECS:
        return parse_json(spec.value, f"compile spec {spec.key}", of=(dict, list))
    try:
        text = str(spec.value, "utf-8")
        if spec.key == "min_deployment_target":
            return int(text) if text else None
    except ValueError as error:
        raise ProgramError(f"compile spec {spec.key!r} is malformed: {error}") from error
    return text


def _raw(spec: pte_schema.CompileSpec) -> str:
    return bytes(spec.value).hex()


def _kernels(program: pte_schema.Program) -> dict[str, int]:
    calls: Counter[str] = Counter()
    for plan in program.execution_plan:
        for chain in plan.chains:
            for instruction in chain.instructions:
                call = instruction.instr_args
                if isinstance(call, pte_schema.KernelCall):
                    operator = plan.operators[call.op_index]
                    calls[".".join(filter(None, (operator.name, operator.overload)))] += 1
    return dict(sorted(calls.items()))


def _output_names(plan: pte_schema.ExecutionPlan) -> list[str]:
    """The keys of the dict that a method returns, from the structure that torch has written."""
    container = plan.container_meta_type
    try:
        match json.loads(container.encoded_out_str if container else "null"):
            case [_, {"type": "builtins.dict", "context": str(context)}]:
                names = json.loads(context)
                return names if all(isinstance(name, str) for name in names) else []
    except (ValueError, TypeError, RecursionError):
        pass
    return []


def _computes_nothing(kernel: str) -> bool:
    # In a functional program only ExecuTorch itself copies in place (1.5.1, exir/passes/
    # insert_write_back_for_buffers_pass.py).
    on_scalars = ("executorch_prim::", "aten::sym_", "aten::_local_scalar_dense")
    return kernel == "aten::copy_" or kernel.startswith(on_scalars)


def _total(counts: Iterator[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))
