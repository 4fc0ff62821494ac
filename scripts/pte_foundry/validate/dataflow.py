"""Readers of the values of a Core ML program, and the units of its quantized values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pte_foundry.mil import Program
    from pte_foundry.mil.instructions import Operation

# coremltools' pass ``distributive_quantized_binary_op_scale_normalization`` (9.0) divides both
# inputs of these operations by the scale of one of them, and the scale of the quantized result too.
_RESCALED = frozenset({"add", "sub"})


class Dataflow:
    """The values of one function; nested blocks are left out.

    Args:
        program: the program.
        function: the name of one of its functions.
    """

    def __init__(self, program: Program, function: str) -> None:
        self._operations = program.operations(function)
        self._outputs = {output.name for output in program.functions[function].outputs}
        self._readers: dict[str, list[Operation]] = {}
        for operation in self._operations:
            for name in set(_inputs(operation)):
                self._readers.setdefault(name, []).append(operation)
        self._units: dict[str, float] = {}
        self._find_units(program, function)

    def _find_units(self, program: Program, function: str) -> None:
        level_sizes: dict[str, float] = {}  # of quantized values: one level, in the model's unit
        for operation in self._operations:
            if not operation.outputs:  # such as write_state
                continue
            result = operation.outputs[0].name
            if operation.op in ("quantize", "dequantize"):
                scale = program.constants(result, function)["scale"]
                if scale.numel() != 1:
                    continue
                source = operation.inputs["input"][0]
                if operation.op == "quantize":
                    level_sizes[result] = float(scale) / self.unit(source)
                elif source in level_sizes and all(
                    reader.op in _RESCALED for reader in self._read_by(result)
                ):
                    self._units[result] = float(scale) / level_sizes[source]
            elif operation.op in _RESCALED:
                units = {self.unit(name) for name in _inputs(operation)}
                if units and math.isclose(min(units), max(units), rel_tol=0.01):
                    self._units[result] = max(units)

    def unit(self, name: str) -> float:
        """Returns the divisor that turns a float value into the model's value; usually 1."""
        return self._units.get(name, 1.0)

    def with_quantization(self, name: str) -> list[str]:
        """Returns a value's name, then those of its quantized and dequantized forms in order.

        A form belongs to the value only if every reader of the value reads that form.
        """
        names = [name]
        while (quantize := self._sole_readers(names[-1], "quantize")) and len(quantize) == 1:
            quantized = quantize[0].outputs[0].name
            restored = self._sole_readers(quantized, "dequantize")
            if not restored:
                break
            names += [quantized, restored[0].outputs[0].name]
            if len(restored) > 1:  # a reader of one of them need not read the others
                break
        return names

    def _sole_readers(self, name: str, op: str) -> list[Operation]:
        """The readers of a value if all are of this type and it is not an output; else none."""
        readers = self._read_by(name)
        return readers if name not in self._outputs and all(r.op == op for r in readers) else []

    def _read_by(self, name: str) -> list[Operation]:
        return self._readers.get(name, [])


def _inputs(operation: Operation) -> list[str]:
    return [name for names in operation.inputs.values() for name in names]
