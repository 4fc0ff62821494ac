"""MODEL: what it does, for the page.

pte_foundry/models/module.py documents these functions and their parameters. The file can import
files beside it and modules of the project; a change of any of them rebuilds the model.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn


def network() -> nn.Module:
    """The architecture. Replace it by yours, or import it."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(32, 10),
    )


def build(weights: Path | None = None) -> nn.Module:
    """The model in eval mode, in fp32. There is no file with `weights: {random: 0}`."""
    model = network()
    if weights is not None:
        model.load_state_dict(load_file(weights))
    return model.eval()


def example_inputs() -> tuple[torch.Tensor, ...]:
    """One sample, for torch.export: a tuple of inputs by position, or a dict by parameter."""
    return (torch.zeros(1, 3, 64, 64),)


# The functions below are optional. Their samples are those of a data file that the config names:
#   data: {samples: {file: samples.safetensors, sha256: …}}


# What a build is judged on: samples, and their labels or None. Without it, samples are synthetic.
# def evaluation(data):
#     samples = load_file(data["samples"])
#     return [(image[None],) for image in samples["images"]], samples["labels"]


# What sets the ranges of quantized activations. Use other samples than for the evaluation.
# def calibration(data):
#     return [(image[None],) for image in load_file(data["samples"])["calibration"]]


# Metrics of your task, for reports and gates. There is one tuple of outputs for each sample.
# def score(outputs, labels):
#     answers = torch.cat([sample["scores"] for sample in outputs]).argmax(1)
#     return {"top1": (answers == labels).float().mean().item()}


# Names for the outputs, in reports, in score() and in the program. Keys of a dict are names, too.
# def output_names():
#     return ["scores"]


# Sizes that may differ from the example's, as torch.export takes them: here the height.
# def dynamic_shapes():
#     return ({2: torch.export.Dim("height", min=32, max=256)},)
