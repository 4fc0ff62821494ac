"""Protects config files that `pte-foundry pin` writes into: nothing but pins changes."""

import hashlib
import http.server
import threading
from functools import partial
from pathlib import Path

import pytest
import yaml
from pte_foundry.cli.main import main
from pte_foundry.config import pins

A, B = (hashlib.sha256(name.encode()).hexdigest() for name in "ab")

CONFIG = """\
# Our models
models:
  net:  # the first
    module: net.py
    weights: {file: a.bin}   # in flow style
    data:
      words:
        file: sub/b.bin  # a comment stays
        # and so does this

      old: {file: a.bin, sha256: SAME}
      empty: {file: a.bin, sha256: }
      "quoted key": { "file": "a.bin", }
  trained: {module: net.py, weights: {train: true}}
  shown: {program: {file: a.bin}, data: {all: {folder: sub}}}
builds: []
"""


@pytest.fixture
def config(tmp_path) -> Path:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_text("a")
    (tmp_path / "sub/b.bin").write_text("b")
    path = tmp_path / "mine.yaml"
    path.write_text(CONFIG.replace("SAME", A))
    return path


def test_missing_pins_are_added_and_all_else_stays(config, capsys):
    config.chmod(0o640)
    assert main(["pin", str(config)]) == 0
    text = config.read_text()
    models = yaml.safe_load(text)["models"]
    assert models["net"]["weights"] == {"file": "a.bin", "sha256": A}
    assert models["net"]["data"]["words"] == {"file": "sub/b.bin", "sha256": B}
    assert models["net"]["data"]["empty"] == {"file": "a.bin", "sha256": A}
    assert models["net"]["data"]["quoted key"] == {"file": "a.bin", "sha256": A}
    assert models["shown"]["program"] == {"file": "a.bin", "sha256": A}
    assert models["trained"]["weights"] == {"train": True}
    for kept in CONFIG.splitlines():
        words = kept.split("#")
        assert all(word.strip() in text for word in words[1:]), kept
    assert config.stat().st_mode & 0o777 == 0o640
    assert "5 pinned, 1 as they were" in capsys.readouterr().out
    assert main(["pin", str(config)]) == 0
    assert config.read_text() == text


@pytest.mark.parametrize("end", ["", "\r\n"])
def test_lines_end_as_they_did(config, end):
    text = "models:\r\n  net:\r\n    weights:\r\n      file: a.bin  # ours"
    config.write_bytes((text + end).encode())
    assert main(["pin", str(config)]) == 0
    assert config.read_bytes() == f"{text}\r\n      sha256: {A}\r\n".encode()


def test_a_pin_that_is_there_changes_only_with_update(config, capsys):
    config.write_text(f"models: {{net: {{weights: {{file: a.bin, sha256: {B}}}}}}}\n")
    assert main(["pin", str(config)]) == 0
    assert B in config.read_text()
    assert main(["pin", "--update", str(config)]) == 0
    assert config.read_text() == f"models: {{net: {{weights: {{file: a.bin, sha256: {A}}}}}}}\n"
    assert "changed" in capsys.readouterr().out


def test_a_file_that_is_missing_leaves_the_config_as_it_was(config, capsys):
    config.write_text(CONFIG.replace("sub/b.bin", "gone.bin"))
    before = config.read_bytes()
    assert main(["pin", str(config)]) == 1
    said = capsys.readouterr().err
    assert "models.net.data.words" in said
    assert "gone.bin" in said
    assert config.read_bytes() == before


def test_what_the_web_and_packages_have_is_pinned(config):
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(config.parent))
    handler.log_message = lambda *_: None
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        iris = "{package: scikit-learn, file: sklearn/datasets/data/iris.csv}"
        url = f"http://127.0.0.1:{server.server_port}/a.bin"
        config.write_text(f"models: {{net: {{weights: {{url: '{url}'}}, data: {{i: {iris}}}}}}}\n")
        assert main(["pin", str(config)]) == 0
        server.shutdown()
    model = yaml.safe_load(config.read_text())["models"]["net"]
    assert model["weights"]["sha256"] == A
    assert model["data"]["i"]["sha256"].startswith("f13ffa8fdd56fd8e")


def test_every_origin_that_is_a_file_is_pinned(config):
    config.write_text(
        "models:\n"
        "  gguf: {decoder: {file: a.bin}}\n"
        "  folder: {decoder: {folder: sub}}\n"
        "  repo: {hf: {repo: o/n, revision: main}}\n"
        "  timm: {timm: levit_128, weights: {file: a.bin}}\n"
    )
    assert main(["pin", str(config)]) == 0
    models = yaml.safe_load(config.read_text())["models"]
    assert models["gguf"] == {"decoder": {"file": "a.bin", "sha256": A}}
    assert models["folder"] == {"decoder": {"folder": "sub"}}
    assert models["repo"] == {"hf": {"repo": "o/n", "revision": "main"}}
    assert models["timm"]["weights"] == {"file": "a.bin", "sha256": A}


@pytest.mark.parametrize("text", ["", "[]", "models: 3", "models: {net: 1}", "a: [", "\x00"])
def test_configs_without_sources_are_left_alone_or_refused(config, capsys, text):
    config.write_text(text)
    assert main(["pin", str(config)]) in (0, 1)
    assert config.read_text() == text
    assert "Traceback" not in capsys.readouterr().err


def test_the_default_config_has_all_its_pins():
    text = Path("config/config.yaml").read_text()
    assert all(pin.digest for pin in pins.pins(text))
