"""Protects downloads: what passes is tried again and resumed, and what does not is not."""

import hashlib
import http.server
import random
import shutil
import threading
from collections import Counter
from types import SimpleNamespace

import pytest
from pte_foundry.errors import ModelError
from pte_foundry.models import download as module
from pte_foundry.models.download import PARTIAL, download

CONTENT = random.Random(0).randbytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)
WHOLE = (0, SIZE)


class Server(http.server.ThreadingHTTPServer):
    """A real server on loopback, that does to each request what ``plan`` says, then its work.

    Attributes:
        plan: for each request a status to refuse with, or the number of bytes to send before the
            connection is cut.
        ranges: whether it can resume.
        chunked: whether it sends no length.
        tag: the version of its file.
        asked: the requests: where they begin, and their ``If-Range``.
        sent: bytes.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan, self.asked, self.sent = [], [], 0
        self.ranges, self.chunked, self.tag, self.content = True, False, '"1"', CONTENT
        self.headers = {}
        self.url = f"http://127.0.0.1:{self.server_port}/weights.bin"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server: Server = self.server
        start = int((self.headers.get("Range") or "bytes=0-")[len("bytes=") : -1])
        condition = self.headers.get("If-Range")
        server.asked.append((start, condition))
        fault = server.plan.pop(0) if server.plan else None
        self.close_connection = True
        if isinstance(fault, str):  # a status
            self.send_response(int(fault))
            for name, value in ({"Content-Length": "0"} | server.headers).items():
                self.send_header(name, value)
            self.end_headers()
            return
        if not server.ranges or (condition and condition != server.tag):
            start = 0
        content = server.content
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.tag:
            self.send_header("ETag", server.tag)
        body = content[start:]
        if server.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        sent = body if fault is None else body[:fault]
        server.sent += len(sent)
        if server.chunked:
            self.wfile.write(b"%x\r\n" % len(body) + sent)
            self.wfile.write(b"\r\n0\r\n\r\n" if fault is None else b"")
        else:
            self.wfile.write(sent)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    waits = []
    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=waits.append))
    with Server() as running:
        running.waits = waits
        threading.Thread(target=running.serve_forever, args=[0.01], daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def output(tmp_path):
    return tmp_path / "net" / "weights" / "weights.bin"


def left(output):
    return [path.name for path in output.parent.iterdir() if path != output]


@pytest.mark.parametrize("chunked", [False, True], ids=["with length", "chunked"])
def test_a_cut_download_goes_on_where_it_stopped(server, output, chunked):
    """A chunked body that is cut raises IncompleteRead, which is no OSError."""
    server.plan, server.chunked = [1_500_000, 1000], chunked
    download(server.url, SHA256, output)
    assert output.read_bytes() == CONTENT
    assert left(output) == []
    starts = [start for start, _ in server.asked]
    assert starts[0] == 0 < starts[1] < starts[2]
    assert [condition for _, condition in server.asked] == [None, '"1"', '"1"']
    assert server.sent == SIZE


def test_a_server_that_cannot_resume_sends_it_again(server, output):
    server.plan, server.ranges = [1_500_000], False
    download(server.url, SHA256, output)
    assert output.read_bytes() == CONTENT
    assert server.sent == 1_500_000 + SIZE


@pytest.mark.parametrize("tag", ['"1"', 'W/"1"', ""])
def test_a_file_that_changes_meanwhile_is_not_pasted_together(server, output, tag):
    """By its tag, or if it has none, or a weak one, by its checksum."""
    server.plan, server.tag = [1_500_000], tag
    server.content = b"old" * 1_000_000
    original = Handler.do_GET

    class Changing(Handler):
        def do_GET(self):
            if self.server.asked:
                self.server.content = CONTENT
                self.server.tag = tag.replace("1", "2")
            original(self)

    server.RequestHandlerClass = Changing
    download(server.url, SHA256, output)
    assert output.read_bytes() == CONTENT


def test_the_next_run_goes_on_with_what_the_last_one_has_left(server, output):
    server.plan = [1_500_000] + [0] * 9
    with pytest.raises(ModelError, match=r"after 5 tries.* 1\.5 MB are kept"):
        download(server.url, SHA256, output)
    assert not output.exists()
    assert len(left(output)) == 1
    server.plan = []
    download(server.url, SHA256, output)
    assert output.read_bytes() == CONTENT
    assert server.sent == SIZE
    assert left(output) == []


@pytest.mark.parametrize("size", [SIZE, SIZE + 9])
def test_a_part_that_is_complete_or_too_long(server, output, size):
    """It was left by a process that was killed before the rename, or of another file."""
    server.plan = [9] + [0] * 9
    with pytest.raises(ModelError):
        download(server.url, SHA256, output)
    (part,) = left(output)
    (output.parent / part).write_bytes((CONTENT + bytes(9))[:size])
    server.plan, server.sent = [], 0
    download(server.url, SHA256, output)
    assert output.read_bytes() == CONTENT
    assert server.sent == (0 if size == SIZE else SIZE)


def test_a_part_of_another_configuration_is_removed(server, output):
    output.parent.mkdir(parents=True)
    (output.parent / f"{PARTIAL}0123").write_bytes(b"x")
    (output.parent / ".keep").touch()
    download(server.url, SHA256, output)
    assert left(output) == [".keep"]


@pytest.mark.parametrize("status", ["429", "500", "502", "503", "504", "408"])
def test_a_busy_server_is_asked_again_after_a_while(server, output, status):
    server.plan = [status, status]
    download(server.url, SHA256, output)
    assert output.read_bytes() == CONTENT
    assert server.waits == [1, 2]


def test_a_server_that_names_a_time_is_left_alone_as_long(server, output):
    server.plan, server.headers = ["503", "503"], {"Retry-After": "30"}
    download(server.url, SHA256, output)
    assert server.waits == [30, 30]
    server.plan, server.headers = ["503"], {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}
    download(server.url, SHA256, output)
    assert server.waits[2:] == [1]


@pytest.mark.parametrize("status", ["404", "401", "403", "410", "400"])
def test_what_does_not_pass_is_asked_once(server, output, status):
    server.plan = [status]
    with pytest.raises(ModelError, match=f"the download failed: HTTP Error {status}"):
        download(server.url, SHA256, output)
    assert (len(server.asked), server.waits, left(output)) == (1, [], [])


def test_a_server_that_never_answers_is_given_up(server, output, monkeypatch):
    monkeypatch.setattr(module, "TIMEOUT", 0.05)
    monkeypatch.setattr(Handler, "do_GET", lambda self: threading.Event().wait(0.5))
    with pytest.raises(ModelError, match=r"after 5 tries: .*timed out"):
        download(server.url, SHA256, output)
    assert server.waits == [1, 2, 4, 8]


def test_a_slow_line_is_followed_as_long_as_something_comes(server, output):
    server.plan = [1 << 20, 0, 0, 0, 1 << 20, 0, 0, 0]
    download(server.url, SHA256, output)
    assert output.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "nonsense://host/x", "no url", "http://[bad/x"]
)
def test_an_address_without_a_server(server, output, url):
    with pytest.raises(ModelError, match="the download failed"):
        download(url, SHA256, output)
    assert len(server.waits) == (4 if url.startswith("http://127") else 0)


def test_another_checksum_is_told_and_not_asked_for_again(server, output):
    with pytest.raises(ModelError, match=f"expected sha256 {'0' * 64}\n  found    sha256 {SHA256}"):
        download(server.url, "0" * 64, output)
    assert (len(server.asked), left(output)) == (1, [])


def test_a_disk_that_is_too_small_is_told_before_it_is_full(server, output, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(ModelError, match=r"3\.0 MB are to be downloaded.* only 1\.0 MB left"):
        download(server.url, SHA256, output)
    assert Counter(server.asked) == {(0, None): 1}
    assert left(output) == []
