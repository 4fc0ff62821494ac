"""Builds models after public bug reports, right and wrong ones side by side, by the real rules.

One run has it all: what is right passes, what is wrong fails for the reason that is written here,
what cannot be built is told once, and nothing hides anything else.
"""

import json

import pytest

from tests.project import Project

RECIPES_AND_TARGETS = """\
recipes:
  fp32: {scheme: none}
  fp16: {scheme: none}
  int8_static:
    scheme: pt2e
    global_config: {activation_observer: min_max}
  int4_group32:
    scheme: quantize
    steps:
      - affine: {weight_dtype: int4, granularity: {group: 32}}
  lut4:
    scheme: quantize
    steps:
      - codebook: {dtype: uint4, block_size: [-1, -1]}
        types: [torch.nn.Linear, torch.nn.Embedding]
targets:
  ios16: {minimum_os: iOS16}
  ios17: {minimum_os: iOS17}
  ios18: {minimum_os: iOS18}
  ios18_fp32: {minimum_os: iOS18, compute_precision: float32}
"""

# net, recipe, target: the status, what its report must hold
SQNR = {
    ("RmsNorm", "fp32", "ios18_fp32"): 90,
    ("RmsNorm", "fp16", "ios18"): 45,
    ("GroupedQuery", "fp16", "ios16"): 45,
    ("GroupedQuery", "fp16", "ios18"): 45,
    ("CeilPool", "fp32", "ios18_fp32"): 90,
    ("CeilPool", "fp16", "ios16"): 45,
    ("Recurrent", "fp16", "ios17"): 45,
    ("Tied", "int8_static", "ios17"): 12,
    ("Handed", "fp16", "ios17"): 45,
    ("Twins", "fp16", "ios18"): 45,
    ("Twins", "fp32", "ios18_fp32"): 90,
    ("Binomial", "fp16", "ios17"): 45,
    ("Binomial", "fp32", "ios18_fp32"): 90,
    ("Transposed", "fp16", "ios16"): 45,
    ("Transposed", "int8_static", "ios17"): 12,
    ("Cache", "fp16", "ios17"): 45,
    ("Cache", "fp16", "ios18"): 45,
    ("RunningSum", "fp16", "ios17"): 45,
    ("RunningSum", "fp16", "ios18"): 45,
    ("PaddingMask", "fp32", "ios18_fp32"): 90,
    ("PaddingMask", "fp16", "ios17"): 45,
    ("Detector", "fp16", "ios18"): 45,
    ("Detector", "fp32", "ios18_fp32"): 90,
    ("Positions", "int8_static", "ios17"): 12,
    ("Positioned", "int4_group32", "ios18"): 10,
    ("Positioned", "lut4", "ios18"): 10,
}
