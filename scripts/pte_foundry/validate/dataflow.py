"""What reads what in a Core ML program, and what its quantized values stand for."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pte_foundry.mil import Program
    from pte_foundry.mil.run import Operation

# coremltools' pass ``distributive_quantized_binary_op_scale_normalization`` (9.0) divides both
# sides of these by the scale of one, and the scale that quantizes the result as well.
_SCALED = frozenset({"add", "sub"})


class Dataflow:
    """The values of one function, outside of nested blocks."""

    def __init__(self, program: Program, function: str) -> None:
        self._readers: dict[str, list[Operation]] = {}
        operations = program.operations(function)
        for operation in operations:
            for name in {name for names in operation.inputs.values() for name in names}:
                self._readers.setdefault(name, []).append(operation)
        self._outputs = {output.name for output in program.functions[function].outputs}
        self._units: dict[str, float] = {}
        steps: dict[str, float] = {}  # of quantized values: what one level stands for
        for operation in operations:
            result = operation.outputs[0].name
            given = [name for names in operation.inputs.values() for name in names]
            if operation.op in ("quantize", "dequantize"):
                scale = program.constants(result, function)["scale"]
                if scale.numel() != 1:
                    continue
                source = operation.inputs["input"][0]
                if operation.op == "quantize":
                    steps[result] = float(scale) / self.unit(source)
                elif source in steps and all(r.op in _SCALED for r in self._read_by(result)):
                    self._units[result] = float(scale) / steps[source]
            elif operation.op in _SCALED:
                units = {self.unit(name) for name in given}
                if math.isclose(min(units), max(units), rel_tol=0.01):
                    self._units[result] = max(units)

    def unit(self, name: str) -> float:
        """What a float value has to be divided by to be what the model computes; mostly 1."""
        return self._units.get(name, 1.0)

    def with_quantization(self, name: str) -> list[str]:
        """A value, and what quantization and dequantization make of it for all that read it."""
        names = [name]
        while (quantize := self._all(names[-1], "quantize")) and len(quantize) == 1:
            quantized = quantize[0].outputs[0].name
            restored = self._all(quantized, "dequantize")
            if not restored:
                break
            names += [quantized, restored[0].outputs[0].name]
            if len(restored) > 1:  # what reads one of them need not read the others
                break
        return names

    def _all(self, name: str, op: str) -> list[Operation]:
        """The operations that read a value, if all are of this kind and there are no others."""
        readers = self._read_by(name)
        return readers if name not in self._outputs and all(r.op == op for r in readers) else []

    def _read_by(self, name: str) -> list[Operation]:
        return self._readers.get(name, [])
