"""Says what a ``.pte`` holds, and whether that is what was asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pte_foundry.errors import ProgramError
from pte_foundry.formats import coreml, schema
from pte_foundry.formats.contents import compute_dtypes, count_ops, weigh
from pte_foundry.formats.read import PteFile, read_pte

_JSON_SPECS = ("op_linear_quantizer_config", "pass_pipeline", "enumerated_shapes")


@dataclass(frozen=True)
class DelegateDescription:
    """A delegate of a method.

    Attributes:
        compile_specs: decoded: texts, numbers, JSON; other backends' in hexadecimal.
            ``min_deployment_target`` is a specification version, or None if none was asked for.
        specification_version: of the model itself; None if it is not Core ML's, or compiled.
        ops: number of operations by type, nested blocks included, constants left out.
        weight_bytes: bytes of what lies in ``weight.bin``, by MIL dtype ("float16", "int4", …).
        compute_dtypes: float dtypes in which operations compute.
        states: names of the model's states.
        handles: number of torch operators that went into it; 0 if unknown.
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
        kernels: number of calls of operators outside of delegates, by name.
        delegated_fraction: the share of the program's torch operators that Core ML computes. A
            delegate's share is the number of distinct debug handles it covers, or where it has none
            (multifunction models) the number of its operations. Outside, every kernel call counts,
            except those on shapes and scalars. 1.0 for a program that calls nothing.
    """

    bytes: int
    methods: tuple[str, ...]
    delegates: tuple[DelegateDescription, ...]
    kernels: dict[str, int]
    delegated_fraction: float

    @property
    def specification_version(self) -> int | None:
        """The newest one that a delegate needs."""
        versions = [d.specification_version for d in self.delegates if d.specification_version]
        return max(versions, default=None)

    @property
    def ops(self) -> dict[str, int]:
        """Operations of all delegates by type."""
        return _total(delegate.ops for delegate in self.delegates)

    @property
    def weight_bytes(self) -> dict[str, int]:
        """Bytes of the weights of all delegates, by dtype."""
        return _total(delegate.weight_bytes for delegate in self.delegates)

    @property
    def states(self) -> tuple[str, ...]:
        return tuple(state for delegate in self.delegates for state in delegate.states)

    def to_dict(self) -> dict[str, Any]:
        """The description as JSON takes it."""
        names = ("specification_version", "ops", "weight_bytes", "states")
        return asdict(self) | {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Expected:
    """What was asked for. None: whatever it is.

    Attributes:
        specification_version: that the minimum OS stands for.
        precision: "float16" or "float32".
        compute_units: as in :data:`pte_foundry.formats.coreml.COMPUTE_UNITS`.
        model_type: "model" or "compiled_model".
        stateful: whether the program takes states.
    """

    specification_version: int | None = None
    precision: str | None = None
    compute_units: str | None = None
    model_type: str | None = None
    stateful: bool | None = None


def describe(source: bytes | Path) -> Description:
    """Describe a program, given its bytes or its path.

    Raises ProgramError if it is malformed; OSError if it cannot be read.
    """
    file = read_pte(source)
    size = source.stat().st_size if isinstance(source, Path) else len(source)
    delegates = tuple(
        _describe_delegate(file, plan.name, delegate)
        for plan in file.program.execution_plan
        for delegate in plan.delegates
    )
    kernels = _kernels(file.program)
    inside = sum(delegate.handles or sum(delegate.ops.values()) for delegate in delegates)
    outside = sum(count for name, count in kernels.items() if not _on_scalars(name))
    total = inside + outside
    return Description(
        bytes=size,
        methods=tuple(file.plans),
        delegates=delegates,
        kernels=kernels,
        delegated_fraction=inside / total if total else 1.0,
    )


def verify(description: Description, expected: Expected) -> None:
    """Compare a program with what was asked for. Raises ProgramError that lists all mismatches."""
    findings = []
    if not any(delegate.backend_id == coreml.BACKEND for delegate in description.delegates):
        findings.append("nothing is delegated to Core ML")
    for number, delegate in enumerate(description.delegates):
        where = f"delegate {number} of {delegate.method!r}"
        if delegate.backend_id != coreml.BACKEND:
            findings.append(f"{where} is {delegate.backend_id}, not {coreml.BACKEND}")
            continue
        findings += [f"{where}: {finding}" for finding in _mismatches(delegate, expected)]
    # A delegate of a few operations may have reasons for float32; a whole program has not.
    dtypes = {dtype for delegate in description.delegates for dtype in delegate.compute_dtypes}
    if expected.precision == "float16" and dtypes == {"float32"}:
        findings.append("computes in float32 only, float16 is wanted")
    if expected.stateful is not None and bool(description.states) != expected.stateful:
        held = f"states {', '.join(description.states)}" if description.states else "no states"
        findings.append(f"{held}, {'some' if expected.stateful else 'none'} wanted")
    if findings:
        raise ProgramError("the program is not what was asked for: " + "; ".join(findings))


def _mismatches(delegate: DelegateDescription, expected: Expected) -> Iterator[str]:
    specs = delegate.compile_specs
    compiled = specs.get("model_type") == "compiled_model"
    pairs = [
        ("compute units", specs.get("compute_units"), expected.compute_units),
        ("model type", specs.get("model_type", "model"), expected.model_type),
        ("precision", specs.get("model_compute_precision"), expected.precision),
    ]
    if not compiled:  # Apple's own format does not say
        version = delegate.specification_version
        pairs.append(("specification version", version, expected.specification_version))
    for what, found, wanted in pairs:
        if wanted is not None and found != wanted:
            yield f"{what} {found}, {wanted} wanted"
    if expected.precision == "float32" and "float16" in delegate.compute_dtypes:
        yield "computes in float16, only float32 is wanted"


def _describe_delegate(
    file: PteFile, method: str, delegate: schema.BackendDelegate
) -> DelegateDescription:
    size = len(file.delegate_data(delegate))
    decode = _decode if delegate.id == coreml.BACKEND else _raw
    specs = {spec.key: decode(spec) for spec in delegate.compile_specs}
    ops: dict[str, int] = {}
    weights: dict[str, int] = {}
    dtypes: tuple[str, ...] = ()
    identifier, version, states, handles = None, None, (), 0
    if delegate.id == coreml.BACKEND:
        model, function = coreml.resolve(file, delegate)
        identifier = model.metadata.get("identifier")
        handles = len(model.handles())
        if not model.compiled:
            version = model.spec.specificationVersion
            body = model.spec.mlProgram.functions.get(function)
            if body is None:
                raise ProgramError(f"the Core ML model has no function {function!r}")
            states = tuple(i.name for i in body.inputs if i.type.WhichOneof("type") == "stateType")
            block = body.block_specializations[body.opset]
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


def _decode(spec: schema.CompileSpec) -> Any:
    if spec.key in _JSON_SPECS:
        return coreml.read_json(spec.value, f"compile spec {spec.key}", of=(dict, list))
    try:
        text = str(spec.value, "utf-8")
        if spec.key == "min_deployment_target":
            return int(text) if text else None
    except ValueError as error:
        raise ProgramError(f"compile spec {spec.key!r} is malformed: {error}") from error
    return text


def _raw(spec: schema.CompileSpec) -> str:
    return bytes(spec.value).hex()


def _kernels(program: schema.Program) -> dict[str, int]:
    calls: Counter[str] = Counter()
    for plan in program.execution_plan:
        for chain in plan.chains:
            for instruction in chain.instructions:
                call = instruction.instr_args
                if isinstance(call, schema.KernelCall):
                    operator = plan.operators[call.op_index]
                    calls[".".join(filter(None, (operator.name, operator.overload)))] += 1
    return dict(sorted(calls.items()))


def _on_scalars(kernel: str) -> bool:
    return kernel.startswith(("executorch_prim::", "aten::sym_", "aten::_local_scalar_dense"))


def _total(counts: Iterator[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for count in counts:
        total.update(count)
    return dict(sorted(total.items()))
