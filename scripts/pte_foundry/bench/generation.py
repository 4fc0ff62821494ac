"""Writing text with a language model's artifact, against eager transformers on its weights."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pte_foundry.bench.built import artifacts
from pte_foundry.bench.measure import Comparison, Side
from pte_foundry.errors import InputError

TITLE = "Generation"
HOW = (
    "Seconds for one token, greedily after a short prompt: pte_foundry.models.decoder.generate on "
    "the artifact against transformers' own model in fp32 on the weights that the artifact was "
    "built from, with its cache of keys and values, in torch.inference_mode, both with torch's "
    "threads. Medians of 64 tokens after 4 that are not timed, of both alternately. limit: "
    "the most that ours may take, as a multiple of theirs. cpu_ratio: the median of their time of "
    "the processor divided by ours, token by token, which other load on the machine changes less."
)
LIMIT = 1 / 0.9
PROMPT = list(range(100, 116))
_TOKENS, _WARM_UPS = 64, 4


def comparisons(results: Path) -> Iterator[Comparison]:
    """Yields one for each recipe of the decoders with a cache, from GGUF, below ``results``."""
    for folder in sorted((results / "pte").glob("*/")):
        weights = sorted((results / "fetch" / folder.name / "weights").glob("*.gguf"))
        for recipe, path in artifacts(results, folder.name).items() if weights else ():
            try:
                ours = writer(path)
            except InputError:
                continue  # no decoder of this library
            if ours is not None:
                theirs = transformers_writer(weights[0])
                yield compare(f"{folder.name} {recipe}", ours, theirs)


def compare(case: str, ours: Callable[[], int], theirs: Callable[[], int]) -> Comparison:
    """Compares two functions that write one token each time, alternately.

    Unlike in ``measure.side_by_side`` no garbage is collected between tokens: that would empty the
    processor's caches, on which the time of so small operations depends.
    """
    wall: tuple[list[float], list[float]] = ([], [])
    processor: tuple[list[float], list[float]] = ([], [])
    for number in range(_WARM_UPS + _TOKENS):
        for side, write in enumerate((ours, theirs)):
            start = time.perf_counter(), time.process_time()
            write()
            if number >= _WARM_UPS:
                wall[side].append(time.perf_counter() - start[0])
                processor[side].append(time.process_time() - start[1])
    ratios = (other / mine for mine, other in zip(*processor, strict=True))
    return Comparison(
        case,
        Side("pte_foundry.models.decoder.generate", wall[0]),
        Side("eager transformers, fp32, with a cache", wall[1]),
        {"limit": LIMIT, "cpu_ratio": statistics.median(ratios)},
    )


def writer(artifact: Path) -> Callable[[], int] | None:
    """Returns what writes the next token with an artifact; None if it has no cache,
    or one for fewer tokens than are measured.

    Raises:
        InputError: the program is no decoder of this library.
    """
    from pte_foundry.models.decoder.artifact import interface_of
    from pte_foundry.models.decoder.generate import Session, generate
    from pte_foundry.pte import Pte

    program = Pte.load(artifact)
    interface = interface_of(program)
    if interface.cache == "none" or interface.context_length <= len(PROMPT) + _WARM_UPS + _TOKENS:
        return None
    session = Session(lambda method, *given: program.run(given, method), interface)
    tokens = generate(session, PROMPT, interface.context_length)
    next(tokens)
    return lambda: next(tokens)


def transformers_writer(weights: Path) -> Callable[[], int]:
    """Returns what writes the next token with transformers' model of a GGUF file."""
    import torch

    from pte_foundry.models.decoder import gguf
    from pte_foundry.models.decoder.config import decoder_config, library

    reader = gguf.open_gguf(weights)
    config = gguf.transformers_config(reader)
    read = gguf.tensors_of(reader, gguf.with_factors(decoder_config(config), reader))
    model = library().AutoModelForCausalLM.from_config(config).eval()
    model.load_state_dict({name: tensor() for name, tensor in read}, strict=False)
    model.tie_weights()
    cache = None
    tokens = torch.tensor([PROMPT])

    @torch.inference_mode()
    def write() -> int:
        nonlocal cache, tokens
        given = model(tokens, past_key_values=cache, use_cache=True)
        cache, tokens = given.past_key_values, given.logits[:, -1:].argmax(-1)
        return int(tokens)

    write()
    return write
