"""Tests that modified or truncated intermediates are detected when they are read."""

import random

import pytest
import torch
from pte_foundry.errors import DamagedError
from pte_foundry.models import programs
from pte_foundry.models.tensors import Samples, load_tensors, save_tensors
from torch import nn

from tests.markers import NEEDS_DEV_FULL

SAMPLE = (torch.arange(6.0).reshape(2, 3), torch.tensor([True, False]))


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    path = tmp_path_factory.mktemp("program") / "linear.pt2"
    programs.save(torch.export.export(nn.Linear(3, 2), (SAMPLE[0],)), path)
    return path


def test_samples_come_back_as_they_were(tmp_path):
    scalar = torch.tensor(2.5, dtype=torch.bfloat16)
    outputs, facts = [(scalar,), (torch.empty(0, 4),)], {"compressed": 0.5, "floats": {"ä": 3}}
    saved = Samples([SAMPLE, SAMPLE], outputs, torch.tensor([1, 2]), weights=facts)
    saved.save(tmp_path / "a.safetensors")
    loaded = Samples.load(tmp_path / "a.safetensors")
    assert loaded.weights == facts
    for mine, theirs in ((saved.inputs, loaded.inputs), (saved.outputs, loaded.outputs)):
        assert [[t.tolist() for t in s] for s in mine] == [[t.tolist() for t in s] for s in theirs]
        assert [[t.dtype for t in s] for s in mine] == [[t.dtype for t in s] for s in theirs]
    assert torch.equal(saved.labels, loaded.labels)


def test_the_checksum_covers_names_types_and_shapes(tmp_path):
    from safetensors import safe_open
    from safetensors.torch import save_file

    path = tmp_path / "a.safetensors"
    save_tensors({"a": torch.zeros(2, 3)}, path)
    with safe_open(path, "pt") as file:
        kept = file.metadata()
    for other in (
        {"b": torch.zeros(2, 3)},
        {"a": torch.zeros(3, 2)},
        {"a": torch.zeros(2, 3, dtype=torch.int32)},
        {"a": torch.zeros(2, 3), "b": torch.zeros(1)},
    ):
        save_file(other, path, kept)
        with pytest.raises(DamagedError):
            load_tensors(path)
    save_file({"a": torch.zeros(2, 3)}, path)
    with pytest.raises(DamagedError):
        load_tensors(path)


def test_tensors_that_were_flipped_or_cut_are_damaged(tmp_path):
    path = tmp_path / "a.safetensors"
    save_tensors({"a": torch.arange(50.0), "b": torch.ones(3, dtype=torch.bool)}, path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(DamagedError, match=r"a\.safetensors is damaged"):
            load_tensors(path)
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            load_tensors(path)


def test_a_program_comes_back_as_it_was(program):
    loaded = programs.load(program)
    assert loaded.module()(SAMPLE[0]).shape == (2, 2)


def test_a_program_that_was_flipped_or_cut_is_damaged(program, tmp_path):
    whole = program.read_bytes()
    path = tmp_path / "linear.pt2"
    chosen = random.Random(0)
    for position in (*chosen.sample(range(len(whole)), 300), *range(len(whole) - 90, len(whole))):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 4]) + whole[position + 1 :])
        with pytest.raises(DamagedError, match=r"linear\.pt2 is damaged"):
            programs.load(path)
    for length in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedError):
            programs.load(path)


@NEEDS_DEV_FULL
def test_a_full_disk_ends_in_an_error_and_not_in_a_signal(tmp_path):
    """torch writes again while it closes the archive; the file below takes nothing from there."""
    exported = torch.export.export(nn.Linear(3, 2), (SAMPLE[0],))
    with open("/dev/full", "wb", buffering=0) as file:
        archive = programs._Archive(file)
        torch.export.save(exported, archive)
        with pytest.raises(OSError, match="No space left"):
            archive.finish()


@pytest.mark.parametrize("pieces", [1, 2, 3, 1000])
def test_an_archive_is_the_same_however_it_is_cut(pieces, program, tmp_path):
    whole = program.read_bytes()[: -programs.DIGEST_SIZE]
    with (tmp_path / "copy.pt2").open("wb") as file:
        archive = programs._Archive(file)
        for start in range(0, len(whole), pieces):
            assert archive.write(whole[start : start + pieces]) > 0
        archive.finish()
    assert (tmp_path / "copy.pt2").read_bytes() == program.read_bytes()
