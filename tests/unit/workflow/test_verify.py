"""Protects results against bit rot: `pte-foundry verify` finds every damaged file of a build."""

import json
import os
import re
import shlex
from functools import partial
from pathlib import Path

import pytest
import torch
from pte_foundry.cli.main import main
from pte_foundry.errors import DamagedError
from pte_foundry.files import (
    check_json,
    check_noted,
    replacing,
    write_bytes,
    write_digest,
    write_json,
)
from pte_foundry.models import programs
from pte_foundry.models.checksums import check_tensors
from pte_foundry.models.tensors import save_tensors
from pte_foundry.workflow.build_options import keep_options
from pte_foundry.workflow.verify import CHECKS, UNCHECKED, verify
from safetensors.torch import _TYPES

ROOT = Path(__file__).resolve().parents[3]
PTE = "results/pte/net/fp16/ios18.pte"
REPORT = "results/validation/net/fp16/ios18/host.json"
DATA = "results/fetch/net/table/table.csv"


class Net(torch.nn.Module):
    def forward(self, x):
        return x + 1


@pytest.fixture(scope="module")
def program():
    return torch.export.export(Net(), (torch.zeros(2),))


@pytest.fixture
def built(tmp_path, monkeypatch, program):
    """The files that a build leaves, as its steps write them, but for what is in the programs."""
    monkeypatch.chdir(tmp_path)
    artifact = write_bytes(Path(PTE), b"artifact" * 100)
    write_digest(Path(f"{PTE}.sha256"), Path(PTE), artifact)
    lowered = write_bytes(Path("results/lower/net/fp16/ios18-float16-0.pte"), b"lowered" * 100)
    write_json(Path("results/lower/net/fp16/ios18-float16-0.json"), {"pte_sha256": lowered})
    fetched = write_bytes(Path(DATA), b"1,2,3\n")
    for path in ("results/export/net.pt2", "results/edge/net/_float/default.pt2"):
        Path(path).parent.mkdir(parents=True)
        programs.save(program, Path(path))
    Path("results/train").mkdir()
    weights = "results/train/net.safetensors"
    save_tensors({"w": torch.eye(3), "empty": torch.zeros(0, 2)}, Path(weights))
    model = {"data": {"table": DATA}, "weights": weights, "sha256": {"table": fetched}}
    write_json(Path("results/model/net.json"), model)
    write_json(Path(REPORT), {"artifact": {"path": PTE, "sha256": artifact}, "x": 1e-05})
    write_json(Path("results/summary.json"), {"builds": [0.1, "ä"]})
    write_json(Path("results/manifest.json"), {"artifacts": {PTE: {"sha256": artifact}}})
    return Path("results")


def files(results: Path) -> list[Path]:
    return [path for path in results.rglob("*") if path.is_file()]


def flip(path: Path, bit: int) -> None:
    """Flips a bit and keeps the date. A second time it puts things right."""
    status = path.stat()
    with path.open("r+b", buffering=0) as file:
        file.seek(bit // 8)
        (byte,) = file.read(1)
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_a_whole_build_is_whole_and_the_files_of_others_do_not_matter(built):
    (built / ".git").mkdir()
    (built / "notes.json").write_text("{")
    (built / "report").mkdir()
    (built / "report/index.html").write_text("a page")
    with replacing(built / "export/net.pt2") as temporary:  # a build is running
        temporary.write_bytes(b"half")
        found = verify(built)
        Path("kept").write_bytes((built / "export/net.pt2").read_bytes())
        temporary.write_bytes(Path("kept").read_bytes())
    assert found.damaged == {}
    assert found.checked == len(files(built)) - 2  # without the notes and the page
    assert found.unchecked == [built / "report/index.html"]


def test_a_flipped_bit_is_found_wherever_it_is(built):
    for path in files(built):
        for bit in {*range(0, 8 * path.stat().st_size, 997), 8 * path.stat().st_size - 1}:
            flip(path, bit)
            assert verify(built).damaged, f"{path}, bit {bit}"
            flip(path, bit)
    assert verify(built).damaged == {}


@pytest.mark.parametrize("name", [REPORT, f"{PTE}.sha256"])
def test_no_bit_of_a_small_file_is_without_meaning(built, name):
    """`1E-05` is the value of `1e-05`, and ` ` is nothing to JSON; the bytes count."""
    path = Path(name)
    check = check_json if path.suffix == ".json" else partial(check_noted, Path(PTE))
    for bit in range(8 * path.stat().st_size):
        flip(path, bit)
        with pytest.raises(DamagedError):
            check(path)
        flip(path, bit)


@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "a folder"])
@pytest.mark.parametrize("name", [PTE, f"{PTE}.sha256", DATA, "results/export/net.pt2"])
def test_what_is_no_file_any_more_is_found(built, name, damage):
    path = Path(name)
    content = path.read_bytes()
    path.unlink()
    if damage == "a folder":
        (path / "inside").mkdir(parents=True)
    elif damage != "missing":
        path.write_bytes(content[: len(content) // 2 if damage == "truncated" else 0])
    # An intermediate file that was deleted is not missed: nothing needs it.
    expected = [] if damage == "missing" and not name.startswith(PTE) else [path]
    assert list(verify(built).damaged) == expected


def test_an_artifact_that_was_replaced_with_its_digest_is_found(built):
    write_digest(Path(f"{PTE}.sha256"), Path(PTE), write_bytes(Path(PTE), b"another"))
    damaged = verify(built).damaged
    assert "the manifest lists another sha256" in damaged[Path(PTE)]
    assert "report of other bytes" in damaged[Path(REPORT)]


@pytest.mark.parametrize("dtype", sorted(_TYPES))
def test_tensors_of_every_dtype_are_checked_without_torch(tmp_path, dtype):
    """If this fails, torch or safetensors has a dtype more: add it to the table."""
    torch_dtype, path = _TYPES[dtype], tmp_path / "a.safetensors"
    save_tensors({"b": torch.ones(2, 1).to(torch_dtype), "a": torch.ones(()).to(torch_dtype)}, path)
    check_tensors(path)


def test_every_output_of_a_rule_is_checked():
    """Add the new one to CHECKS, or to UNCHECKED with a reason."""
    rules = "".join(path.read_text() for path in sorted((ROOT / "rules").glob("*.smk")))
    sections = re.findall(r"^    output:\n((?:        .*\n)+)", rules, re.MULTILINE)
    outputs = set(re.findall(r'"results/([^"]+)"', "".join(sections)))
    outputs = {re.sub(r"\{\w+\}", "*", output) for output in outputs}
    assert outputs == {*CHECKS, *UNCHECKED, "fetch/*/*/*"}


def test_the_command_names_the_files_and_the_configuration_of_the_build(built, capsys, tmp_path):
    snakefile = Path("/a clone/Snakefile")
    keep_options(tmp_path, snakefile, [Path("/my config.yaml")], {"divergence": True, "a": "x"})
    flip(Path(PTE), 9)
    flip(built / "summary.json", 9)
    assert main(["verify"]) == 1
    told = capsys.readouterr().out
    assert f"damaged: {PTE}: checksum mismatch" in told
    assert "2 damaged or missing" in told
    wanted = ["snakemake", "--cores", "all", "--snakefile", "/a clone/Snakefile"]
    wanted += ["--configfile", "/my config.yaml", "--config", "divergence=true", "a=x"]
    wanted += ["--force", "--", PTE, "results/summary.json"]
    assert shlex.split(told.splitlines()[-1]) == wanted
    assert main(["verify", "--json", str(built.absolute())]) == 1
    found = json.loads(capsys.readouterr().out)
    assert shlex.split(found["command"]) == wanted
    assert [Path(entry["path"]).name for entry in found["damaged"]] == ["ios18.pte", "summary.json"]


def test_a_whole_build_is_one_line(built, capsys):
    assert main(["verify"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert re.fullmatch(r"checked 12 files, 0\.\d MB, in \d+\.\d s: none damaged or missing", line)


@pytest.mark.parametrize("name", ["none", "empty"])
def test_a_folder_without_results_is_not_whole(tmp_path, capsys, name):
    (tmp_path / "empty").mkdir()
    assert main(["verify", str(tmp_path / name)]) == 1
    assert "there " in capsys.readouterr().err
