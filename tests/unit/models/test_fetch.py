"""Tests that only files with the pinned checksum are used, whatever their source."""

import hashlib
import http.server
import threading

import pytest
from pte_foundry.errors import ModelError
from pte_foundry.models import fetch

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    """A real HTTP server on loopback: /good, /gone (404). Its faults are in test_download.py."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == "/gone":
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=[0.01], daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_a_file_on_disk_is_copied(tmp_path):
    (tmp_path / "w.bin").write_bytes(CONTENT)
    fetch.fetch({"file": "w.bin", "sha256": SHA256}, tmp_path, tmp_path / "out" / "w.bin")
    assert (tmp_path / "out" / "w.bin").read_bytes() == CONTENT


def test_a_url_is_downloaded(tmp_path, server):
    fetch.fetch({"url": f"{server}/good", "sha256": SHA256}, tmp_path, tmp_path / "w.bin")
    assert (tmp_path / "w.bin").read_bytes() == CONTENT


def test_a_file_of_a_package_is_found_by_the_packages_own_list(tmp_path):
    source = {"package": "scikit-learn", "file": "sklearn/datasets/data/iris.csv"}
    with pytest.raises(ModelError, match="checksum mismatch") as caught:
        fetch.fetch({**source, "sha256": SHA256}, tmp_path, tmp_path / "iris.csv")
    found = str(caught.value).split("found    sha256 ")[1].split()[0]
    fetch.fetch({**source, "sha256": found}, tmp_path, tmp_path / "iris.csv")
    assert (tmp_path / "iris.csv").read_text().startswith("150,4")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"file": "none.bin"}, "no such file"),
        ({"package": "no-such-package", "file": "x"}, "not installed"),
        ({"package": "scikit-learn", "file": "../../etc/passwd"}, "has no file"),
        ({"url": "SERVER/gone"}, "404"),
    ],
)
def test_what_cannot_be_had_is_told_and_nothing_is_left(tmp_path, server, source, message):
    source = {key: value.replace("SERVER", server) for key, value in source.items()}
    with pytest.raises(ModelError, match=message):
        fetch.fetch({**source, "sha256": SHA256}, tmp_path, tmp_path / "out" / "w.bin")
    assert not list((tmp_path / "out").glob("*"))


def test_a_copy_is_whole_also_where_the_system_cannot_copy(tmp_path, monkeypatch):
    """Such as from one file system to another, or where it gives up half-way."""
    (tmp_path / "w.bin").write_bytes(CONTENT)
    source = {"file": "w.bin", "sha256": SHA256}

    def fails(*_):
        raise OSError(18, "Invalid cross-device link")

    for copy_file_range in (fails, lambda *_: 0):
        monkeypatch.setattr(fetch.os, "copy_file_range", copy_file_range)
        fetch.fetch(source, tmp_path, tmp_path / "copy.bin")
        assert (tmp_path / "copy.bin").read_bytes() == CONTENT


def test_another_digest_names_both_and_nothing_is_left(tmp_path):
    (tmp_path / "w.bin").write_bytes(b"tampered")
    with pytest.raises(ModelError) as caught:
        fetch.fetch({"file": "w.bin", "sha256": SHA256}, tmp_path, tmp_path / "out" / "w.bin")
    assert SHA256 in str(caught.value)
    assert hashlib.sha256(b"tampered").hexdigest() in str(caught.value)
    assert not list((tmp_path / "out").iterdir())
