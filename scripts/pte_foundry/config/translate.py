"""Pydantic's errors, rewritten as findings."""

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError

from pte_foundry.config.base import UNION
from pte_foundry.findings import ABSENT, Finding, KeyPath, did_you_mean, listed

_TYPES = {
    "string_type": ("this is not text", "text", "quote it"),
    "int_type": ("this is not a whole number", "a whole number", "write it without quotes"),
    "float_type": ("this is not a number", "a number", "write it without quotes"),
    "finite_number": ("this is not a finite number", "a number", "leave the limit out instead"),
    "bool_type": ("this is neither true nor false", "true, false", "write true or false"),
    "list_type": ("this is not a list", "a list", "write [value]"),
    "dict_type": ("this is not a mapping", "key: value", "write keys with values below it"),
    "invalid-json-value": ("this cannot be written as JSON", "JSON values", "quote it"),
    "invalid_key": ("the key is not text", "text", "quote the key"),
}

_LIMITS = {
    "greater_than_equal": ("ge", "a number of at least {}"),
    "less_than_equal": ("le", "a number of at most {}"),
    "too_short": ("min_length", "a list with at least {} items"),
    "too_long": ("max_length", "a list with at most {} items"),
    "string_too_short": ("min_length", "text with at least {} characters"),
    "string_pattern_mismatch": ("pattern", "text like the pattern {}"),
}


def findings_of(error: ValidationError, prefix: KeyPath, kind: type[BaseModel]) -> list[Finding]:
    """Rewrite every error of one entry; ``kind`` is the entry's class, ``prefix`` its key path."""
    return [_finding(details, prefix, kind) for details in error.errors(include_url=False)]


def _finding(error: dict[str, Any], prefix: KeyPath, kind: type[BaseModel]) -> Finding:
    location = error["loc"]
    keys = tuple(key for key in location if not (isinstance(key, str) and key.startswith(UNION)))
    path, value, sort = (*prefix, *keys), error["input"], error["type"]
    context = error.get("ctx", {})
    if sort == "missing":
        known = keys_of(kind, location[:-1])
        fix = f"add `{keys[-1]}:`"
        return Finding(path, "the required key is missing", f"keys: {listed(known)}", fix)
    if sort == "extra_forbidden":
        known = keys_of(kind, location[:-1])
        fix = did_you_mean(keys[-1], known, "remove it")
        return Finding(path, "unknown key", listed(known), fix, value)
    if sort == "refused":
        return Finding(path, context["problem"], context["allowed"], context["fix"], value)
    if sort == "literal_error":
        allowed = context["expected"].replace(" or ", ", ").replace("'", "")
        fix = did_you_mean(value, allowed.split(", "), "use one of the allowed values")
        return Finding(path, "no such value", allowed, fix, value)
    if sort == "union_tag_invalid":
        allowed = context["expected_tags"].replace(UNION, "").replace("'", "")
        return Finding(path, "not this kind here", allowed, "use one of the allowed kinds", value)
    if sort in ("model_type", "model_attributes_type"):
        known = keys_of(kind, location)
        fix = "write these keys with their values below it"
        return Finding(path, "this is not a mapping", f"keys: {listed(known)}", fix, value)
    if sort in _TYPES:
        return Finding(path, *_TYPES[sort], value)
    if sort in _LIMITS:
        name, words = _LIMITS[sort]
        allowed = words.format(context[name])
        return Finding(path, "the value is not allowed", allowed, f"give {allowed}", value)
    return Finding(path, error["msg"], "see config/README.md", "change the value", value)


def keys_of(kind: Any, location: tuple[str | int, ...]) -> list[str]:
    """Return the keys of the mapping that pydantic's ``location`` inside ``kind`` leads to."""
    for key in location:
        kind = _below(_bare(kind), key)
    kind = _bare(kind)
    return list(kind.model_fields) if isinstance(kind, type) and issubclass(kind, BaseModel) else []


def _bare(kind: Any) -> Any:
    """Strip ``Annotated`` and ``| None``."""
    while True:
        members = [member for member in get_args(kind) if member is not type(None)]
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, UnionType) and len(members) == 1:
            kind = members[0]
        else:
            return kind


def _below(kind: Any, key: str | int) -> Any:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        field = kind.model_fields.get(str(key))
        return ABSENT if field is None else field.annotation
    if get_origin(kind) in (list, dict):
        return get_args(kind)[-1]
    for member in get_args(kind):
        if get_origin(member) is Annotated and Tag(str(key)) in member.__metadata__:
            return member
    return ABSENT
