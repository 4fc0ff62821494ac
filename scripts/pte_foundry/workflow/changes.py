"""Changed parameters of a job in words: which file of its code, which key of its config.

A job has two parameters of ours (:mod:`pte_foundry.workflow.jobs`): a digest of its code and a
slice of the config. Snakemake records both with every output. What a digest stands for is kept
beside these records, once for each digest.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pte_foundry.errors import DamagedError
from pte_foundry.files import read_json, write_json
from pte_foundry.slice_argument import decoded, is_encoded

STORE = Path(".snakemake/pte_foundry/code")

_DIGEST = re.compile(r"[0-9a-f]{64}")
_SHOWN = 4  # changes of each kind
_LONGEST = 60  # characters of a value


def keep(contents: Mapping[str, Mapping[str, str]], store: Path = STORE) -> None:
    """Keeps what digests stand for.

    Args:
        contents: digest to the names and fingerprints of the files.
        store: the folder, which need not exist.
    """
    for digest, files in contents.items():
        path = store / f"{digest}.json"
        if not path.exists():
            write_json(path, _short(files))


def describe(
    known: Mapping[str, Mapping[str, str]], old: set[str], new: set[str], store: Path = STORE
) -> str:
    """Returns what has changed between two sets of parameters, each given by its ``repr``.

    Args:
        known: what current digests stand for.
        old: the parameters that only the last execution had.
        new: the parameters that only this one has.
        store: where :func:`keep` has kept what earlier digests stand for.
    """
    before, after = sorted(map(_value, old), key=str), sorted(map(_value, new), key=str)
    slices = list(_paired(list(_slices(before)), list(_slices(after))))
    config = [change for pair in slices for change in _differences(*pair)]
    digests = [value for value in before if _is_digest(value)]
    kept = [found for digest in digests if (found := _kept(digest, store))]
    current = [_short(known[value]) for value in after if _is_digest(value) and value in known]
    # The export has a second digest, which stands for no files.
    code = _differing(*kept, *current) if len(kept) == len(current) == 1 else []
    found = []
    if code or (digests and not config):
        found.append(f"code: {_listed(code) or 'changed, or the sources of the model'}")
    if config:
        found.append(f"config: {_listed(config)}")
    return (
        "; ".join(found) or f"{_listed(list(map(str, before)))} -> {_listed(list(map(str, after)))}"
    )


def _value(representation: str) -> Any:
    try:
        return ast.literal_eval(representation)
    except (ValueError, SyntaxError):
        return representation


def _is_digest(value: Any) -> bool:
    return isinstance(value, str) and _DIGEST.fullmatch(value) is not None


def _differing(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    names = old.keys() | new.keys()
    return sorted(name for name in names if old.get(name) != new.get(name))


def _short(files: Mapping[str, str]) -> dict[str, str]:
    return {name: value[:16] for name, value in files.items()}


def _kept(digest: str, store: Path) -> dict[str, str] | None:
    try:
        return read_json(store / f"{digest}.json")
    except DamagedError:
        return None


def _slices(values: list[Any]) -> Iterator[dict[str, Any]]:
    for value in values:
        if isinstance(value, str) and is_encoded(value):
            with suppress(ValueError, DamagedError):
                yield decoded(value)


def _paired(
    old: list[dict[str, Any]], new: list[dict[str, Any]]
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Pairs slices that have most keys in common: a job can have several."""
    for before in old:
        if not new:
            return
        best = max(new, key=lambda after: len(before.keys() & after.keys()))
        new.remove(best)
        yield before, best


def _differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """The keys whose values differ, as ``path: old -> new``."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            inner = f"{path}.{key}" if path else key
            if key not in old:
                yield f"{inner}: added {_shown(new[key])}"
            elif key not in new:
                yield f"{inner}: removed {_shown(old[key])}"
            else:
                yield from _differences(old[key], new[key], inner)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, (before, after) in enumerate(zip(old, new, strict=True)):
            yield from _differences(before, after, f"{path}[{at}]")
    elif old != new:
        yield f"{path}: {_shown(old)} -> {_shown(new)}"


def _shown(value: Any) -> str:
    if _is_digest(value):
        return f"{value[:8]}…"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


def _listed(changes: list[str]) -> str:
    more = f" and {len(changes) - _SHOWN} more" if len(changes) > _SHOWN else ""
    return ", ".join(changes[:_SHOWN]) + more
