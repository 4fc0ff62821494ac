"""The values of sources: digests, addresses, repositories and paths, each refused with the fix."""

import re
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

from pte_foundry.config.base import refusal

REPOSITORY = r"[\w.-]+/[\w.-]+"
COMMIT = "[0-9a-f]{40}"
"""Patterns of the name of a Hugging Face repository, and of one of its commits."""


def _digest(value: str) -> str:
    if len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value
    raise refusal(
        "this is not a sha256 digest",
        "64 lower-case hexadecimal digits",
        "use the first column of `sha256sum FILE`",
    )


def web_address(value: str) -> str:
    """Return a web address of a file. Raises PydanticCustomError for anything else."""
    try:
        address = urlsplit(value)
        host = address.hostname
    except ValueError:
        host = None
    if not host or address.scheme not in ("http", "https") or any(map(str.isspace, value)):
        raise refusal(
            "only web addresses can be downloaded",
            "http://HOST/FILE or https://HOST/FILE",
            "write a web address, or use `file:` for a file on this machine",
        )
    if not re.fullmatch(r"[A-Za-z0-9_][^/]*", unquote(address.path).rsplit("/", 1)[-1]):
        raise refusal(
            "the address does not end in a file name",
            "http://HOST/FILE or https://HOST/FILE",
            "write the address of the file itself",
        )
    return value


def repository(value: str) -> str:
    """Return the name of a repository, OWNER/NAME; raises as ``web_address``."""
    if re.fullmatch(REPOSITORY, value):
        return value
    raise refusal(
        "this is not the name of a repository", "OWNER/NAME", "copy it from the model's page"
    )


def commit(value: str) -> str:
    """Return a commit of 40 hexadecimal digits; raises as ``web_address``."""
    if re.fullmatch(COMMIT, value):
        return value
    raise refusal(
        "this is not a commit, and a branch or a tag can change",
        "40 lower-case hexadecimal digits",
        "use the commit that `git ls-remote https://HOST/OWNER/NAME` prints",
    )


def inside(value: str) -> str:
    """Return a relative path that stays inside a package; raises as ``web_address``."""
    parts = value.split("/")
    if value and not value.startswith("/") and ".." not in parts and "\\" not in value:
        return value
    raise refusal(
        "the path leaves the package",
        "a relative path with / and without ..",
        "write the path as `pip show --files PACKAGE` lists it",
    )


Sha256 = Annotated[
    str,
    AfterValidator(_digest),
    Field(
        description="The file's sha256, 64 lower-case hexadecimal digits; checked before any use.",
        json_schema_extra={"pattern": "^[0-9a-f]{64}$"},
    ),
]
