"""Protects the checks of an exported program: they read what torch reads."""

import zipfile

import pytest
import torch
from pte_foundry.upstream import torch_archives


def test_records_are_those_of_the_archive(tmp_path):
    path = tmp_path / "a.pt2"
    torch.export.save(torch.export.export(torch.nn.ReLU(), (torch.ones(2),)), path)
    archive = torch_archives.Archive(path)
    with zipfile.ZipFile(path) as other:
        inside = {name.partition("/")[2]: other.read(name) for name in other.namelist()}
    assert {name: archive.read(name) for name in archive.names()} == inside
    with pytest.raises(RuntimeError):
        archive.read("nothing")


def test_torch_reads_with_this_reader():
    """If this fails: check with the reader that ``torch.export.load`` has now."""
    from torch.export.pt2_archive._package import PT2ArchiveReader

    assert "PyTorchFileReader" in PT2ArchiveReader.__init__.__code__.co_names


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "a.pt2").write_bytes(b"no archive")
    with pytest.raises(RuntimeError):
        torch_archives.Archive(tmp_path / "a.pt2")
