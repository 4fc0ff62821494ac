"""Translation of pydantic's errors into findings."""

from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, JsonValue, Tag, ValidationError

from pte_foundry.config.base import NAMES, UNION
from pte_foundry.findings import ABSENT, Finding, KeyPath, did_you_mean, listed

_TYPES = {
    "string_type": ("expected a string", "a string", "quote it"),
    "string_unicode": ("this is not valid Unicode", "text", "remove the surrogate character"),
    "int_type": ("expected an integer", "an integer", "write it without quotes"),
    "float_type": ("expected a number", "a number", "write it without quotes"),
    "finite_number": ("the number is not finite", "a finite number", "leave the limit out"),
    "bool_type": ("expected true or false", "true, false", "write true or false"),
    "list_type": ("expected a list", "a list", "write [value]"),
    "dict_type": ("expected a mapping", "key: value", "write keys with values below it"),
    "invalid-json-value": ("the value is not JSON", "any JSON value", "quote it"),
    "invalid_key": ("the key is not a string", "a string", "quote the key"),
}

_LIMITS = {
    "greater_than_equal": ("ge", "a number of at least {}"),
    "less_than_equal": ("le", "a number of at most {}"),
    "too_short": ("min_length", "a list of at least {} items"),
    "too_long": ("max_length", "a list of at most {} items"),
    "string_too_short": ("min_length", "a string of at least {} characters"),
    "string_pattern_mismatch": ("pattern", "a string that matches {}"),
}


def findings_of(error: ValidationError, document: type[BaseModel]) -> list[Finding]:
    """Translate every error of the validation of ``document``."""
    return [_finding(details, document) for details in error.errors(include_url=False)]


def _finding(error: dict[str, Any], document: type[BaseModel]) -> Finding:
    location, value, sort = error["loc"], error["input"], error["type"]
    context = error.get("ctx", {})
    names_key = location[-1:] == ("[key]",) and sort != "extra_forbidden"
    location = location[:-1] if names_key else location
    path, kind = _walk(document, location)
    _, holder = _walk(document, location[:-1])
    if sort == "missing":
        fix = f"add `{path[-1]}:`{_hint(path[-1], holder, value)}"
        return Finding(path, "the required key is missing", f"keys: {listed(_keys(holder))}", fix)
    if sort == "extra_forbidden":
        known = _keys(holder)
        fix = did_you_mean(path[-1], known, "remove it")
        return Finding(path, "unknown key", listed(known), fix, value)
    if sort == "refused":
        if "at" in context:
            path, value = (*path, context["at"]), value.get(context["at"], ABSENT)
        return Finding(path, context["problem"], context["allowed"], context["fix"], value)
    if sort == "literal_error":
        allowed = context["expected"].replace(" or ", ", ").replace("'", "")
        fix = did_you_mean(value, allowed.split(", "), "use one of the allowed values")
        return Finding(path, "no such value", allowed, fix, value)
    if sort == "union_tag_invalid":
        allowed = context["expected_tags"].replace(UNION, "").replace("'", "")
        fix = "use one of the allowed kinds"
        return Finding(path, "this kind is not allowed here", allowed, fix, value)
    if sort in ("model_type", "model_attributes_type"):
        fix = "write these keys with their values below it"
        return Finding(path, "expected a mapping", f"keys: {listed(_keys(kind))}", fix, value)
    if sort == "dict_type" and value is None:
        fix = "leave the key out, or write keys with values below it"
        return Finding(path, "expected a mapping", "key: value", fix, value)
    if sort == "string_type" and names_key:
        return Finding(path, "the name is not a string", NAMES, f'quote it: "{value}"', value)
    if sort == "too_short" and isinstance(value, dict):
        fix = f"define at least one entry under `{path[-1]}:`"
        return Finding(path, "the section is empty", "at least one entry", fix, value)
    if sort in _TYPES:
        return Finding(path, *_TYPES[sort], value)
    if sort in _LIMITS:
        name, words = _LIMITS[sort]
        allowed = words.format(context[name])
        return Finding(path, "the value is not allowed", allowed, f"write {allowed}", value)
    return Finding(path, error["msg"], "see config/README.md", "change the value", value)


def _hint(key: str | int, holder: Any, given: Any) -> str:
    """What a missing key holds; for a digest the command that prints it."""
    source = given if isinstance(given, dict) else {}
    if key == "sha256":
        file = source.get("file", "FILE")
        command = f"`sha256sum {file}`"
        if isinstance(source.get("url"), str):
            command = f"`curl -sL {source['url']} | sha256sum`"
        elif "package" in source:
            command = f"`sha256sum` for {file} in the folder of the package"
        return f", the first column of {command}; `pte-foundry pin CONFIG` writes it"
    description = holder.model_fields[str(key)].description if _keys(holder) else None
    return f" with the {description[0].lower()}{description[1:].rstrip('.')}" if description else ""


def _walk(kind: Any, location: tuple[str | int, ...]) -> tuple[KeyPath, Any]:
    """Return the key path of one of pydantic's locations, and the type there (``ABSENT``: none).

    A location also contains the tags of unions, which are no keys.
    """
    path: KeyPath = ()
    for key in location:
        kind = bare(kind)
        if isinstance(key, str) and key.startswith(UNION):
            kind = _member(kind, key)
        elif kind is JsonValue:
            kind = {"list": list[JsonValue], "dict": dict[str, JsonValue]}.get(key, ABSENT)
        else:
            path, kind = (*path, key), below(kind, key)
    return path, bare(kind)


def _keys(kind: Any) -> list[str]:
    return list(kind.model_fields) if is_class(kind) else []


def is_class(kind: Any) -> bool:
    """Return whether a type is a class of keys, not a scalar, a union or a container."""
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def bare(kind: Any) -> Any:
    """Strip ``Annotated`` and ``| None``."""
    while True:
        members = [member for member in get_args(kind) if member is not type(None)]
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, UnionType) and len(members) == 1:
            kind = members[0]
        else:
            return kind


def _member(union: Any, tag: str) -> Any:
    for member in get_args(union):
        if get_origin(member) is Annotated and Tag(tag) in member.__metadata__:
            return member
    return ABSENT


def below(kind: Any, key: str | int) -> Any:
    """Return the type of the value at a key of a mapping or a list (``ABSENT``: none)."""
    if is_class(kind):
        field = kind.model_fields.get(str(key))
        return ABSENT if field is None else field.annotation
    return get_args(kind)[-1] if get_origin(kind) in (list, dict) else ABSENT
