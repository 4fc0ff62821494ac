"""What all models of the configuration have in common."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, BeforeValidator, ConfigDict
from pydantic_core import PydanticCustomError

UNION = "union:"
"""Prefix of the tags of our unions, so that they can be told from keys in an error's location."""


class Strict(BaseModel):
    """A mapping without unknown keys and without silent conversions (``"8"`` is not ``8``)."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


def refusal(problem: str, allowed: str, fix: str) -> PydanticCustomError:
    """Build the error of a validator; its parts become those of the finding."""
    return PydanticCustomError(
        "refused", "{problem}", {"problem": problem, "allowed": allowed, "fix": fix}
    )


def refuse(reasons: Mapping[str, tuple[str, str]], allowed: str) -> BeforeValidator:
    """Refuse values that one may well expect to work, each with its own problem and fix."""

    def validate(value: Any) -> Any:
        if isinstance(value, str) and value in reasons:
            problem, fix = reasons[value]
            raise refusal(problem, allowed, fix)
        return value

    return BeforeValidator(validate)
