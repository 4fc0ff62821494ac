"""Files of installed packages: the check of a config and the fetch of a file must agree."""

import pytest
from pte_foundry.config.sources import PackageSource
from pte_foundry.errors import ModelError
from pte_foundry.files import sha256
from pte_foundry.models.fetch import fetch
from pte_foundry.packages import packaged_file

FILES = ("vendored/data/table.csv", "data/table.csv", "one/weights.bin", "a/x.bin", "b/x.bin")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package; the file that an exact path means is not the first that matches."""
    installed = tmp_path / "site-packages"
    for file in FILES:
        (installed / file).parent.mkdir(parents=True, exist_ok=True)
        (installed / file).write_text(file)
    information = installed / "foundry_demo-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: foundry-demo\nVersion: 1.0\n"
    )
    (information / "RECORD").write_text("".join(f"{file},,\n" for file in FILES))
    monkeypatch.syspath_prepend(str(installed))
    return "foundry-demo"


@pytest.mark.parametrize(
    ("file", "found"),
    [
        ("data/table.csv", "data/table.csv"),
        ("vendored/data/table.csv", "vendored/data/table.csv"),
        ("weights.bin", "one/weights.bin"),
    ],
)
def test_an_exact_path_wins_over_the_end_of_another(package, file, found, tmp_path):
    path = packaged_file(package, file)
    assert path.read_text() == found
    source = PackageSource(package=package, file=file, sha256=sha256(path))
    assert list(source.findings((), tmp_path)) == []
    fetch(source.model_dump(), tmp_path, tmp_path / "fetched")
    assert (tmp_path / "fetched").read_text() == found


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("foundry-demo", "x.bin", "write the whole path: a/x.bin, b/x.bin"),
        ("foundry-demo", "eights.bin", "did you mean one/weights.bin"),
        ("foundry-demo", "../METADATA", "has no file"),
        ("zzzz-qqqq", "x.bin", "add zzzz-qqqq to a file extra.in, and run `make"),
        ("foundry-dmeo", "x.bin", "did you mean foundry-demo?"),
    ],
)
def test_what_is_refused_by_the_check_cannot_be_fetched(package, name, file, words, tmp_path):
    source = PackageSource.model_construct(package=name, file=file, sha256="0" * 64)
    (finding,) = source.findings((), tmp_path)
    assert words in str(finding)
    with pytest.raises(ModelError, match="Fix:") as caught:
        fetch(source.model_dump(), tmp_path, tmp_path / "fetched")
    assert words in str(caught.value)
