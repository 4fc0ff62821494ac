"""Gives every output of a Core ML program a name of its own.

Stands against: coremltools 9.0
Repairs: ``PassPipelineManager.apply_pipeline`` (``converters/mil/mil/passes/pass_pipeline.py``),
    whose passes merge equal values also where both are outputs of the program: ``(y, y * 1)`` and
    ``(relu(x), relu(x))`` become one value given twice. The model that is written has two outputs
    with one name, and no way to bind a buffer to each.
Remove when: coremltools writes no model with two outputs of one name.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from coremltools.converters.mil.mil import Builder as mb
from coremltools.converters.mil.mil import Function, Program
from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipeline, PassPipelineManager

from pte_foundry.upstream.versions import require

require(PassPipelineManager, "apply_pipeline", "prog pass_pipeline", patch=__name__)
require(Function, "set_outputs", "self outputs", patch=__name__)


@contextmanager
def single_outputs() -> Iterator[None]:
    """Within this context an output that a program has several times is copied for each."""
    upstream = PassPipelineManager.apply_pipeline

    def apply_pipeline(program: Program, pipeline: PassPipeline) -> None:
        upstream(program, pipeline)
        for function in program.functions.values():
            if len(set(function.outputs)) < len(function.outputs):
                _separate(function)

    with patch.object(PassPipelineManager, "apply_pipeline", staticmethod(apply_pipeline)):
        yield


def _separate(function: Function) -> None:
    outputs = []
    with function:
        for output in function.outputs:
            if output in outputs and output.op is not None:
                copy = mb.identity(x=output, name=f"{output.name}_copy_{len(outputs)}")
                copy.op.scopes = dict(output.op.scopes)  # debug handles, of the operator it is of
                output = copy
            outputs.append(output)
    function.set_outputs(outputs)
