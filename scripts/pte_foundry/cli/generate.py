"""``pte-foundry generate``: text from a language model in a ``.pte``, without a Mac."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pte_foundry.cli.files import existing
from pte_foundry.cli.limits import add_limits, limits_of, whole_number
from pte_foundry.errors import InputError

if TYPE_CHECKING:
    from pte_foundry.models.decoder.tokens import Text

DESCRIPTION = """\
Continues a text, or answers as the model's chat template has it, with a decoder
that pte-foundry built (`decoder:` in the config). The reference interpreter
runs the Core ML program: the text is the program's, the speed is not that of an
Apple device. The text goes to standard output as it comes, and what it took to
standard error."""
EXAMPLES = """\
  pte-foundry generate smollm2.pte --prompt "The capital of France is"
  pte-foundry generate smollm2.pte --chat --prompt "Name three colours."
  pte-foundry generate a.pte --tokenizer m.gguf --prompt Once --temperature 0.8
"""

_FOLDERS_UP = 4  # from results/pte/{model}/{recipe}/{target}.pte to results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, metavar="FILE", help="the artifact, a .pte")
    parser.add_argument("--prompt", required=True, metavar="TEXT", help="the text to continue")
    parser.add_argument(
        "--chat", action="store_true", help="the text is a question, put into the chat template"
    )
    parser.add_argument(
        "--system", metavar="TEXT", help="with --chat: instructions before the question"
    )
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help="tokenizer.json, a folder with one, a snapshot (.zip) or a .gguf; by default the "
        "nearest to the artifact, or that of its model in the results folder",
    )
    parser.add_argument(
        "--tokens",
        type=whole_number,
        default=64,
        metavar="N",
        help="generate at most N tokens (64)",
    )
    parser.add_argument(
        "--temperature",
        type=_temperature,
        default=0.0,
        metavar="T",
        help="sample; higher is more random, 0 takes the likeliest token (0)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="random seed (0)")
    add_limits(parser)


def run(arguments: argparse.Namespace) -> int:
    from pte_foundry.models.decoder.artifact import interface_of
    from pte_foundry.models.decoder.generate import Sampling, Session, generate
    from pte_foundry.pte import Pte

    if arguments.system is not None and not arguments.chat:
        raise InputError("--system needs --chat")
    program = Pte.load(existing(arguments.file), limits_of(arguments))
    text = _text(arguments.tokenizer or _found(arguments.file))
    session = Session(lambda method, *given: program.run(given, method), interface_of(program))
    prompt = _prompt(text, arguments)
    sampling = Sampling(arguments.temperature, arguments.seed)
    begin = time.perf_counter()
    times: list[float] = []

    def timed() -> Iterator[int]:
        for token in generate(session, prompt, arguments.tokens, text.ends, sampling):
            times.append(time.perf_counter())
            yield token

    for piece in text.stream(timed()):
        print(piece, end="", flush=True)
    print()
    print(_took(len(prompt), begin, times), file=sys.stderr)
    return 0


def _prompt(text: Text, arguments: argparse.Namespace) -> list[int]:
    if not arguments.chat:
        return text.encode(arguments.prompt)
    messages = [{"role": "user", "content": arguments.prompt}]
    if arguments.system is not None:
        messages.insert(0, {"role": "system", "content": arguments.system})
    return text.chat(messages)


def _took(prompt: int, begin: float, times: list[float]) -> str:
    """How long the prompt and the answer took."""
    if not times:
        return f"[{prompt} tokens read, no answer]"
    parts = [f"{prompt} tokens read in {times[0] - begin:.1f} s"]
    if len(times) > 1:
        seconds = times[-1] - times[0]
        parts.append(f"{len(times)} written, {(len(times) - 1) / seconds:.1f} a second")
    return f"[{', '.join(parts)}, by the interpreter on this machine]"


def _found(artifact: Path) -> Path:
    """The tokenizer that is nearest to an artifact, or that its model's weights come with."""
    folders = list(artifact.absolute().parents)[:_FOLDERS_UP]
    for folder in folders:
        for path in (folder, folder / "tokenizer"):
            if (path / "tokenizer.json").is_file():
                return path
    if len(folders) == _FOLDERS_UP:  # of results/pte/{model}/{recipe}/{target}.pte
        weights = folders[3] / "fetch" / folders[1].name / "weights"
        if held := [*sorted(weights.glob("*.zip")), *sorted(weights.glob("*.gguf"))]:
            return held[0]
    raise InputError(
        f"{artifact}: no tokenizer was found: no tokenizer.json beside it or in the folders above, "
        "and no snapshot or GGUF file in results/fetch/MODEL/weights. Name one with --tokenizer"
    )


def _text(path: Path) -> Text:
    from pte_foundry.models.decoder.tokens import Text
    from pte_foundry.models.snapshots import source_of

    with source_of(existing(path), weights=False) as found:
        if found.suffix == ".gguf" or (found.is_dir() and not (found / "tokenizer.json").is_file()):
            return Text.of(found)
        return Text.load(found if found.is_dir() else found.parent)


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r}: expected 0 or more")
    return value
