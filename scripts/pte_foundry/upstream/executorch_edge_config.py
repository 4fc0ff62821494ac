"""Settings for an edge program that keeps operators for Core ML.

Stands against: executorch 1.5.1
Uses: ``EdgeCompileConfig(_check_ir_validity=False)`` (``exir/capture/_config.py``), as upstream's
    Core ML recipes do. The check refuses every operator that is neither core ATen nor preserved,
    also where Core ML or ExecuTorch has it.
Remove when: the check knows what the backends support, or can be switched off publicly.
"""

from executorch.exir import EdgeCompileConfig

from pte_foundry.upstream.torch_operators import OpOverload
from pte_foundry.upstream.versions import require

require(EdgeCompileConfig(), "_check_ir_validity", patch=__name__)


def preserving(operators: list[OpOverload]) -> EdgeCompileConfig:
    """Return a configuration that keeps these operators from being decomposed.

    It has a list of its own: upstream's verifiers append to the list that they are given.
    """
    return EdgeCompileConfig(_check_ir_validity=False, preserve_ops=list(operators))
