"""Runs models in PyTorch on evaluation samples: the fp32 reference and quantized programs.

Buffers have their initial values at the start of every sample, so that the order of samples has no
effect.
"""

from collections.abc import Callable, Container

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.fx import GraphModule, Node
from torch.fx.experimental.const_fold import split_const_subgraphs

from pte_foundry.errors import ModelError
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import Samples, as_sample
from pte_foundry.upstream.torch_operators import mutates


def reference(model: ModelModule) -> Samples:
    """Returns the evaluation inputs, the eager fp32 model's outputs for them, and the labels."""
    module = model.build()
    reset = resetter(module)
    inputs, labels = model.evaluation()
    outputs, names = [], None
    for index, sample in enumerate(inputs):
        reset()
        found = model.run_named(module, sample)
        keys = list(found) if isinstance(found, dict) else []
        if names not in (None, keys):
            raise ModelError(
                f"{model.path}: forward() returned {keys or 'no names'} for sample {index}, but "
                f"{names or 'no names'} before; return the same outputs for all samples"
            )
        names = keys
        outputs.append(as_sample(found))
    return Samples(inputs, outputs, labels, model.layout.names(module), names or [])


def evaluate(program: ExportedProgram, reference: Samples) -> Samples:
    """Returns a quantized program's outputs for the inputs of ``reference``, with its labels.

    The result has no inputs: they are in the reference already.
    """
    module = program.module()
    # Decompresses the weights once, not for every sample.
    folded = split_const_subgraphs(module, skip_folding_node_fn=_may_change(module))
    reset = resetter(folded)
    outputs = []
    for sample in reference.inputs:
        reset()
        with torch.no_grad():
            outputs.append(as_sample(folded(*sample)))
    return Samples([], outputs, reference.labels)


def resetter(module: nn.Module, names: Container[str] | None = None) -> Callable[[], None]:
    """Returns a function that gives buffers the values that they have now.

    Args:
        module: its buffers may be replaced meanwhile, but not reshaped.
        names: which buffers, by name; None: all.
    """
    initial = {
        name: buffer.detach().clone()
        for name, buffer in module.named_buffers()
        if names is None or name in names
    }

    def reset() -> None:
        for name, buffer in module.named_buffers():
            if name in initial:
                buffer.detach().copy_(initial[name])

    return reset


def _may_change(module: GraphModule) -> Callable[[Node], bool]:
    """Returns a test for nodes that are not constant: each call of the module may change them.

    They read a buffer, or an operator writes into their result: folded, the result of T5's
    ``buckets += …`` would grow with every sample.
    """
    writing = [node for node in module.graph.nodes if mutates(node.target)]
    if not writing:
        return lambda node: False
    buffers = {name for name, _ in module.named_buffers()}
    written: set[Node] = set()
    for node in writing:
        target = node.args[0] if node.args else None
        while isinstance(target, Node) and target.op == "call_function":
            written.add(target)
            target = target.args[0] if target.args else None  # which a view shares its memory with
    return lambda node: (
        node in written
        or any(given.op == "get_attr" and given.target in buffers for given in node.all_input_nodes)
    )
