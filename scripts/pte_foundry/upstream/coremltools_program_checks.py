"""Checks a Core ML program once after a pass pipeline, not after each pass.

Stands against: coremltools 9.0
Repairs: ``PassPipelineManager.apply_pipeline`` (``converters/mil/mil/passes/pass_pipeline.py``),
    which validates the whole program after each of about a hundred passes to find faults of the
    passes: 15 to 30 % of the time of a lowering.
Remove when: upstream validates once per pipeline, or cheaply.

The backend validates the program again before it writes it, as upstream does.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from coremltools.converters.mil.mil import Program
from coremltools.converters.mil.mil.passes.pass_pipeline import PassPipeline, PassPipelineManager

from pte_foundry.upstream.versions import require

require(PassPipelineManager, "apply_pipeline", "prog pass_pipeline", patch=__name__)
require(Program, "validate", "self check_essential_scope", patch=__name__)


@contextmanager
def checked_once() -> Iterator[None]:
    """Within this context a pipeline's program is validated after its last pass only."""
    upstream = PassPipelineManager.apply_pipeline

    def apply_pipeline(program: Program, pipeline: PassPipeline) -> None:
        with patch.object(Program, "validate", lambda *_, **__: None):
            upstream(program, pipeline)
        program.validate()

    with patch.object(PassPipelineManager, "apply_pipeline", staticmethod(apply_pipeline)):
        yield
