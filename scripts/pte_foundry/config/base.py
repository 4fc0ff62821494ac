"""Base class, name types and refusals that all sections of the configuration share."""

import re
from collections.abc import Callable, Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
)
from pydantic_core import PydanticCustomError

from pte_foundry.findings import did_you_mean, listed

UNION = "union:"
"""Prefix of the tags of unions; tells them from keys in the location of pydantic's errors."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
NAMES = "letters, digits, `.`, `_` and `-`, starting with a letter or a digit"
LONGEST_NAME = 100


class Strict(BaseModel):
    """A mapping without unknown keys and without silent conversions (``"8"`` is not ``8``)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def refusal(problem: str, allowed: str, fix: str, at: str | None = None) -> PydanticCustomError:
    """Return the error that a validator raises; ``findings_of`` makes a finding of its parts.

    Args:
        problem: what is wrong.
        allowed: what is expected.
        fix: how to correct it.
        at: the key that is wrong, if the refused value is the mapping that holds it.
    """
    parts = {"problem": problem, "allowed": allowed, "fix": fix}
    if at is not None:
        parts["at"] = at
    # YAML can contain lone surrogates, with which pydantic could not format the error.
    encoded = {key: part.encode("utf-8", "backslashreplace") for key, part in parts.items()}
    parts = {key: part.decode() for key, part in encoded.items()}
    return PydanticCustomError("refused", "{problem}", parts)


def refuse(reasons: Mapping[Any, tuple[str, str]], allowed: str) -> BeforeValidator:
    """Refuse values that a user may well expect to work, each with its own problem and fix."""

    def validate(value: Any) -> Any:
        if type(value) in (str, int) and value in reasons:
            problem, fix = reasons[value]
            raise refusal(problem, allowed, fix)
        return value

    return BeforeValidator(validate)


def one_of(classes: Mapping[str, type[Strict]], kind_of: Callable[[Any], str]) -> Any:
    """Return the type of an entry that belongs to one of several classes.

    Args:
        classes: the classes by the name of their kind.
        kind_of: returns the name of the kind of an entry that is not validated yet.
    """

    def tag(value: Any) -> str:
        for kind, made in classes.items():
            if type(value) is made:
                return UNION + kind
        return UNION + kind_of(value)

    members = [Annotated[made, Tag(UNION + kind)] for kind, made in classes.items()]
    if len(members) == 1:  # pydantic accepts no union of one
        return next(iter(classes.values()))
    return Annotated[reduce(or_, members), Discriminator(tag)]


def by_key(key: str, classes: Mapping[str, type[Strict]]) -> Any:
    """Return the type of an entry whose value of ``key`` names its class."""

    def check(value: Any) -> Any:
        if isinstance(value, Strict):
            return value
        example = f"{{{key}: {next(iter(classes))}}}"
        if not isinstance(value, dict):
            raise refusal("expected a mapping", f"keys: {key}, …", f"write e.g. {example}")
        if isinstance(value.get(key), str) and value[key] in classes:
            return value
        descriptions = {kind: made.model_fields[key].description for kind, made in classes.items()}
        choices = "; ".join(f"{kind}: {text.rstrip('.')}" for kind, text in descriptions.items())
        if key in value:
            fix = did_you_mean(value[key], classes, choices)
            raise refusal(f"no such {key}", listed(classes), fix, at=key)
        fix = f"add `{key}:` with one of these; {choices}"
        raise refusal("the required key is missing", listed(classes), fix, at=key)

    return Annotated[one_of(classes, lambda value: value[key]), BeforeValidator(check)]


def _name(value: str) -> str:
    if re.fullmatch(NAME_PATTERN, value) and len(value) <= LONGEST_NAME:
        return value
    better = re.sub(r"[^A-Za-z0-9._-]+|^[._-]+", "_", value).strip("_")[:LONGEST_NAME]
    raise refusal(
        "the name is used as a file name in the results folder, and is not a valid one",
        f"{NAMES}; at most {LONGEST_NAME} characters",
        f"rename it, e.g. to {better}" if better else "rename it",
    )


Name = Annotated[
    str,
    AfterValidator(_name),
    Field(json_schema_extra={"pattern": NAME_PATTERN, "maxLength": LONGEST_NAME}),
]
"""A key that becomes part of a path in the results folder."""
