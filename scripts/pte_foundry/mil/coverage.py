"""Table of coremltools' operations: where the interpreter implements each, or why it need not."""

from dataclasses import dataclass

from pte_foundry.mil import ops  # noqa: F401  (registers the operations)
from pte_foundry.mil.registry import OPSETS, find

NOT_IMPLEMENTED = "not implemented"

# coremltools writes programs of older opsets as neural networks.
_BEFORE_PROGRAMS = "no ML program: they begin with iOS15"

# Operations that a saved program cannot contain, or that do not run.
_REASONS = {
    "const": "a constant: read at load, not executed",
    "_const_symbolic": "only in coremltools' tests: its value is a symbol, which no file contains",
}

# Dialect operations by prefix of their names: coremltools replaces all before it saves a program.
_DIALECTS = {
    "complex": "lowered by common::lower_complex_dialect_ops",
    "coreml_update_state": "written as write_state and read_state",
    "torch_tensor_assign": "lowered by torch::torch_tensor_assign_to_core",
    "torch_upsample": "lowered by torch::torch_upsample_to_core_upsample",
}


@dataclass(frozen=True)
class Row:
    """One operation of coremltools.

    Attributes:
        op: its name.
        family: the module of coremltools that defines its first version.
        versions: by opset ("iOS15"), the first opset of the function that computes it here, or the
            reason why there is none. Opsets without the operation are absent.
    """

    op: str
    family: str
    versions: dict[str, str]

    @property
    def missing(self) -> list[str]:
        """Opsets at which a program with this operation would be refused."""
        return [opset for opset, version in self.versions.items() if version == NOT_IMPLEMENTED]


def table() -> list[Row]:
    """List every operation that coremltools registers, dialects included, by family and name.

    coremltools 9.0 defines no new operation for its newest opset, iOS26 (CoreML9): a program of
    that opset contains those of iOS18.
    """
    from coremltools.converters.mil.mil.ops.registry import SSAOpRegistry

    known = {target.name for target in SSAOpRegistry.SUPPORTED_OPSET_VERSIONS}
    newer = [opset for opset in OPSETS.values() if opset not in known]
    rows = []
    for op, definitions in SSAOpRegistry.core_ops.items():
        opsets = [target.name for target in definitions] + newer
        family = _family(next(iter(definitions.values())))
        rows.append(Row(op, family, {opset: _version(op, opset) for opset in opsets}))
    for op, definition in SSAOpRegistry.dialect_ops.items():
        reason = next((r for start, r in _DIALECTS.items() if op.startswith(start)), None)
        versions = dict.fromkeys(OPSETS.values(), reason or NOT_IMPLEMENTED)
        rows.append(Row(op, _family(definition), versions))
    return sorted(rows, key=lambda row: (row.family, row.op))


def _family(definition: type) -> str:
    return definition.__module__.rpartition(".")[2]


def _version(op: str, opset: str) -> str:
    if op in _REASONS:
        return _REASONS[op]
    if opset not in OPSETS.values():
        return _BEFORE_PROGRAMS
    kernel = find(op, opset)
    return kernel.since if kernel else NOT_IMPLEMENTED
