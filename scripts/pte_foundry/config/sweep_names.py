"""Names of the recipes of a sweep: that of the sweep, and a word for the value of every option.

A number follows its key (``group_size16``), a word stands alone (``uint3``), unless several options
are swept that have words: then it follows its key too (``weight_dtype_int4``), as true, false and
null always do. A key that several options have follows what these are in (``step2_group_size16``).

No word depends on the other values of a list, so that adding a value renames no other recipe.
"""

import json
import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, get_args

from pte_foundry.findings import KeyPath


def names(
    sweep: str, kinds: Mapping[KeyPath, Any], lists: Mapping[KeyPath, Sequence[Any]]
) -> dict[str, tuple[int, ...]]:
    """Returns the recipes by name, each with its position in every list; of equal names the last.

    Args:
        sweep: its name.
        kinds: the types of the swept options, by their key paths.
        lists: their values.
    """
    alone = sum(map(_has_words, kinds.values())) == 1
    words = [
        [_word(_key(path, list(lists)), value, alone) for value in values]
        for path, values in lists.items()
    ]
    return {
        "_".join([sweep, *(word[i] for word, i in zip(words, at, strict=True))]): at
        for at in product(*(range(len(values)) for values in lists.values()))
    }


def _has_words(kind: Any) -> bool:
    return kind is str or any(isinstance(value, str) for value in get_args(kind))


def _word(key: str, value: Any, alone: bool) -> str:
    if isinstance(value, str):
        word = value if alone else f"{key}_{value}"
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        word = f"{key}{value}"
    else:
        word = f"{key}_{json.dumps(value, default=str)}"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", word)


def _key(path: KeyPath, options: Sequence[KeyPath]) -> str:
    """Returns the key of an option, after what tells it from the others with the same key."""
    same = [other for other in options if other[-1] == path[-1]]
    if len(same) == 1:
        return str(path[-1])
    if _differ(same, -2):
        return f"{path[-2]}_{path[-1]}"
    first = next(at for at, parts in enumerate(zip(*same, strict=False)) if len({*parts}) > 1)
    if not _differ(same, first):
        return "_".join(map(str, path))
    holder = path[first]
    if isinstance(holder, int):  # the item of a list, counted from 1: step2
        holder = f"{str(path[first - 1]).removesuffix('s')}{holder + 1}"
    return f"{holder}_{path[-1]}"


def _differ(options: Sequence[KeyPath], at: int) -> bool:
    return len({option[at] for option in options}) == len(options)
