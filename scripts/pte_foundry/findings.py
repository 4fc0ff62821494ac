"""Findings: errors in a configuration, each with its place, the allowed values and the fix."""

import difflib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pte_foundry.errors import ConfigError

KeyPath = tuple[str | int, ...]

ABSENT = object()
"""The value of a key that is not there, which differs from ``null``."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_*-]+")
_SHOWN_CHARACTERS = 90


@dataclass(frozen=True)
class Finding:
    """One error: its place, the problem, the allowed values and the fix.

    Attributes:
        path: key path in the configuration.
        problem: what is wrong.
        allowed: the allowed values.
        fix: how to correct it.
        value: the wrong value, or ``ABSENT``.
        where: file and line, if known.
    """

    path: KeyPath
    problem: str
    allowed: str
    fix: str
    value: Any = ABSENT
    where: str = ""

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        value = "" if self.value is ABSENT else f" = {shown(self.value)}"
        return (
            f"{place}{dotted(self.path)}{value}\n"
            f"    problem: {self.problem}\n"
            f"    allowed: {self.allowed}\n"
            f"    fix:     {self.fix}"
        )


def dotted(path: KeyPath) -> str:
    """Format a key path: ``recipes.a.module_name_configs."features.0"[1]``."""
    text = ""
    for key in path:
        if isinstance(key, int):
            text += f"[{key}]"
        else:
            name = key if _PLAIN_KEY.fullmatch(key) else json.dumps(key, ensure_ascii=False)
            text += f".{name}" if text else name
    return text or "(top level)"


def shown(value: Any) -> str:
    """Format a value as JSON, shortened; ``"8"`` and ``8`` look different."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def listed(values: Iterable[Any]) -> str:
    """Format values as a comma-separated list."""
    return ", ".join(str(value) for value in values) or "(none)"


def did_you_mean(value: Any, known: Iterable[str], otherwise: str) -> str:
    """Suggest the known name that is most similar to ``value``; ``otherwise`` if none is."""
    by_lower_case = {name.lower(): name for name in known}
    near = difflib.get_close_matches(str(value).lower(), by_lower_case, n=1, cutoff=0.6)
    return f"did you mean {by_lower_case[near[0]]}?" if near else otherwise


def raise_for(findings: Iterable[Finding]) -> None:
    """Raise one ``ConfigError`` with all findings, if there are any."""
    texts = [str(finding) for finding in findings]
    if texts:
        count = "1 error" if len(texts) == 1 else f"{len(texts)} errors"
        raise ConfigError("\n".join([f"The configuration has {count}:", *texts]))
