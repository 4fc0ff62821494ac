"""Made-up snapshots of transformers with random weights, and a server that has one of them."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pte_foundry.upstream.torchvision_operators import make_importable

COMMIT = "a" * 40
"""The only one that the server has."""


def write_snapshots(root: Path) -> None:
    """Writes the snapshots ``vit``, ``whisper`` and ``gpt2``, and the folder ``images``."""
    make_importable()
    from transformers import (
        GPT2Config,
        GPT2LMHeadModel,
        ViTConfig,
        ViTForImageClassification,
        ViTImageProcessor,
        WhisperConfig,
        WhisperForConditionalGeneration,
    )

    torch.manual_seed(0)
    names = {0: "cat", 1: "dog", 2: "cow"}
    vit = ViTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=16,
        patch_size=8,
        id2label=names,
        label2id={name: index for index, name in names.items()},
    )
    ViTForImageClassification(vit).save_pretrained(root / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(root / "vit")
    whisper = WhisperConfig(
        vocab_size=32,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=32,
        decoder_ffn_dim=32,
        num_mel_bins=8,
        max_source_positions=10,
        max_target_positions=10,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=1,
    )
    WhisperForConditionalGeneration(whisper).save_pretrained(root / "whisper")
    gpt2 = GPT2Config(
        vocab_size=32,
        n_positions=16,
        n_embd=16,
        n_layer=1,
        n_head=2,
        bos_token_id=1,
        eos_token_id=2,
    )
    GPT2LMHeadModel(gpt2).save_pretrained(root / "gpt2")
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (root / "images" / name).mkdir(parents=True)
        for index in range(2):
            pixels = generator.integers(0, 255, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "images" / name / f"{index}.png")


def copied(folder: Path, target: Path, **changes: object) -> Path:
    """Copies a snapshot, with changes in its ``config.json``."""
    target.mkdir()
    for path in folder.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    config = json.loads((target / "config.json").read_text()) | changes
    (target / "config.json").write_text(json.dumps(config))
    return target


class Hub(BaseHTTPRequestHandler):
    """What ``snapshot_download`` asks of the Hub: the files of a commit, and each of them."""

    def __init__(self, *arguments, folder, asked):
        self.folder, self.asked = folder, asked
        super().__init__(*arguments)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        name, content = self.path.rpartition("/")[2], None
        if "/api/models/" in self.path:
            siblings = [{"rfilename": path.name} for path in self.folder.iterdir()]
            found = {"id": "o/n", "sha": COMMIT, "siblings": siblings}
            if "/tree/" in self.path:
                found = [
                    {"type": "file", "path": p.name, "size": p.stat().st_size, "oid": "0" * 40}
                    for p in self.folder.iterdir()
                ]
            content = json.dumps(found).encode()
        elif COMMIT in self.path and (self.folder / name).is_file():
            self.asked.append(name)
            content = (self.folder / name).read_bytes()
        self.send_response(404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", '"' + name + '"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content or b"")

    def log_message(self, *arguments):
        pass


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Serves a snapshot as the repository ``o/n``; gives the endpoint and what was asked of it."""
    asked = []
    handler = partial(Hub, folder=folder, asked=asked)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
