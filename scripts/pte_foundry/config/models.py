"""The ``models`` section: a module, its weights, its data and its options."""

import re
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Discriminator, Field, JsonValue, Tag

from pte_foundry.config.base import UNION, Strict, refusal


def _digest(value: str) -> str:
    if len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value
    raise refusal(
        "this is not a sha256 digest",
        "64 lower-case hexadecimal digits",
        "take the first column of `sha256sum FILE`",
    )


def _web_address(value: str) -> str:
    try:
        address = urlsplit(value)
        host = address.hostname
    except ValueError:
        host = None
    if not host or address.scheme not in ("http", "https") or any(map(str.isspace, value)):
        raise refusal(
            "only web addresses can be downloaded",
            "http://HOST/FILE or https://HOST/FILE",
            "give a web address, or use `file:` for a file on this machine",
        )
    if not re.fullmatch(r"[A-Za-z0-9_][^/]*", unquote(address.path).rsplit("/", 1)[-1]):
        raise refusal(
            "the address does not end in a file's name",
            "http://HOST/FILE or https://HOST/FILE",
            "give the address of the file itself",
        )
    return value


def _inside(value: str) -> str:
    parts = value.split("/")
    if value and not value.startswith("/") and ".." not in parts and "\\" not in value:
        return value
    raise refusal(
        "the path leaves the package",
        "a relative path with / and without ..",
        "give the path as `pip show --files PACKAGE` lists it",
    )


Sha256 = Annotated[
    str,
    AfterValidator(_digest),
    Field(
        description="The file's sha256, 64 lower-case hexadecimal digits; checked before any use.",
        json_schema_extra={"pattern": "^[0-9a-f]{64}$"},
    ),
]


class _Source(Strict):
    kind: ClassVar[str]

    @property
    def filename(self) -> str:
        """The last part of the path: what the file is called in the results folder."""
        path = urlsplit(self.url).path if isinstance(self, UrlSource) else self.file
        return unquote(path).rsplit("/", 1)[-1]


class FileSource(_Source):
    """A file on this machine."""

    kind: ClassVar[str] = "file"

    file: str = Field(
        min_length=1, description="Path of the file, relative to the project or absolute."
    )
    sha256: Sha256


class UrlSource(_Source):
    """A file on the web, downloaded once."""

    kind: ClassVar[str] = "url"

    url: Annotated[str, AfterValidator(_web_address)] = Field(
        description="Web address of the file, http or https.",
        json_schema_extra={"pattern": "^https?://[^/\\s]+"},
    )
    sha256: Sha256


class PackageSource(_Source):
    """A file inside an installed Python package."""

    kind: ClassVar[str] = "package"

    package: str = Field(
        min_length=1, description="Name of the distribution, as `pip list` shows it."
    )
    file: Annotated[str, AfterValidator(_inside)] = Field(
        description="The file's path in the distribution's own list of files "
        "(`pip show --files PACKAGE`), or the end of that path if only one file has it."
    )
    sha256: Sha256


class TrainSource(Strict):
    """Weights that the module's own `train()` makes, deterministically."""

    kind: ClassVar[str] = "train"

    train: Literal[True] = Field(
        description="Must be true: the weights are made by the module's `train()`."
    )
    sha256: Sha256 | None = Field(
        default=None, description="If given, the trained weights must have this sha256."
    )


def _source_kind(value: Any) -> str:
    # A dict while it is read, one of the classes while it is written.
    keys = value if isinstance(value, dict) else getattr(type(value), "model_fields", {})
    return UNION + next((key for key in ("package", "url", "train") if key in keys), "file")


DataSource = Annotated[
    Annotated[FileSource, Tag(UNION + "file")]
    | Annotated[UrlSource, Tag(UNION + "url")]
    | Annotated[PackageSource, Tag(UNION + "package")],
    Discriminator(_source_kind),
]
WeightsSource = Annotated[
    Annotated[FileSource, Tag(UNION + "file")]
    | Annotated[UrlSource, Tag(UNION + "url")]
    | Annotated[PackageSource, Tag(UNION + "package")]
    | Annotated[TrainSource, Tag(UNION + "train")],
    Discriminator(_source_kind),
]


class Model(Strict):
    """A network to build: one Python file, pinned weights and data."""

    module: str = Field(
        min_length=1,
        description="Path of the Python file that defines the model, relative to the project "
        "(the folder of the Snakefile) or absolute.",
    )
    weights: WeightsSource = Field(
        description="Where the weights come from: a file, a web address, a file inside an "
        "installed package, or `train: true`."
    )
    data: dict[str, DataSource] = Field(
        default_factory=dict,
        description="Further pinned files (samples, a tokenizer …), handed to the module by name.",
    )
    options: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Handed to the module's functions by name: every function gets those options "
        "that it has a parameter for.",
    )
