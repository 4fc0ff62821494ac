"""Checks that a value is a validation report, when one is written and when one is read."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from pte_foundry.errors import InputError
from pte_foundry.findings import dotted, shown
from pte_foundry.validate.schema import ValidationReport

_ADAPTER = TypeAdapter(ValidationReport)


def problems(report: Any) -> list[str]:
    """Returns every difference between a value and a :class:`ValidationReport`, in words."""
    if not isinstance(report, dict):
        required = ValidationReport.__required_keys__
        keys = (key for key in ValidationReport.__annotations__ if key in required)
        return [f"not a validation report, which is an object with the keys {', '.join(keys)}"]
    try:
        # Strict: without conversions, so that the value itself conforms.
        _ADAPTER.validate_python(report, strict=True)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
    else:
        return []
    missing = sorted((e["loc"] for e in found if e["type"] == "missing"), key=len)
    lacking = [f"lacks {', '.join(map(dotted, missing))}"] if missing else []
    return lacking + [
        f"{dotted(e['loc'])} is {shown(e['input'])}, expected {_expected(e)}"
        for e in found
        if e["type"] != "missing"
    ]


def _expected(error: Any) -> str:
    if error["type"] == "predicate_failed":  # IsFinite is the only predicate of the schema
        return "a finite number"
    return error["msg"].removeprefix("Input should be ")


def checked(report: dict[str, Any]) -> ValidationReport:
    """Returns the report itself. Raises InputError that lists all its :func:`problems`."""
    if found := problems(report):
        raise InputError(f"The validation report is malformed: {'; '.join(found)}.")
    return report
