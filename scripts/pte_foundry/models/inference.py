"""Runs models in PyTorch on evaluation samples: the fp32 reference and quantized programs."""

import torch
from torch.export import ExportedProgram
from torch.fx.experimental.const_fold import split_const_subgraphs

from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import Samples, as_sample


def reference(model: ModelModule) -> Samples:
    """Returns the evaluation inputs, the eager fp32 model's outputs for them, and the labels."""
    module = model.build()
    inputs, labels = model.evaluation()
    return Samples(inputs, [model.run(module, sample) for sample in inputs], labels)


def evaluate(program: ExportedProgram, reference: Samples) -> Samples:
    """Returns a quantized program's outputs for the inputs of ``reference``, with its labels.

    The result has no inputs: they are in the reference already.
    """
    # Decompresses the weights once, not for every sample.
    module = split_const_subgraphs(program.module())
    with torch.no_grad():
        outputs = [as_sample(module(*sample)) for sample in reference.inputs]
    return Samples([], outputs, reference.labels)
