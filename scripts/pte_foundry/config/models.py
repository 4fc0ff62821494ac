"""The ``models`` section: a module, its weights, its data and its options."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, JsonValue

from pte_foundry.config.base import Name, Strict, one_of, refusal
from pte_foundry.findings import Finding, KeyPath
from pte_foundry.packages import PackagedFileError, packaged_file


def _digest(value: str) -> str:
    if len(value) == 64 and set(value) <= set("0123456789abcdef"):
        return value
    raise refusal(
        "this is not a sha256 digest",
        "64 lower-case hexadecimal digits",
        "use the first column of `sha256sum FILE`",
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
            "write a web address, or use `file:` for a file on this machine",
        )
    if not re.fullmatch(r"[A-Za-z0-9_][^/]*", unquote(address.path).rsplit("/", 1)[-1]):
        raise refusal(
            "the address does not end in a file name",
            "http://HOST/FILE or https://HOST/FILE",
            "write the address of the file itself",
        )
    return value


def _inside(value: str) -> str:
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


class Source(Strict):
    """Where a weights or data file comes from. A kind of source is a subclass."""

    kind: ClassVar[str]
    made: ClassVar[bool] = False
    """Whether the rule `train` makes the file, rather than `fetch`."""
    functions: ClassVar[tuple[str, ...]] = ()
    """Functions that the source needs in the model's module, besides those that it always needs."""

    def findings(self, path: KeyPath, root: Path) -> Iterator[Finding]:
        """Find what is missing on this machine.

        Args:
            path: key path of the source.
            root: the project's folder.
        """
        yield from ()


def _last_part(path: str) -> str:
    return unquote(path).rsplit("/", 1)[-1]


class FileSource(Source):
    """A file on this machine."""

    kind: ClassVar[str] = "file"

    file: str = Field(
        min_length=1, description="Path of the file, relative to the project or absolute."
    )
    sha256: Sha256

    @property
    def filename(self) -> str:
        """Name of the file in the results folder."""
        return _last_part(self.file)

    def findings(self, path: KeyPath, root: Path) -> Iterator[Finding]:
        """Find that the file does not exist."""
        if not (root / self.file).is_file():
            fix = "check the path; it is relative to the project"
            key = (*path, "file")
            yield Finding(key, "there is no such file", "an existing file", fix, self.file)


class UrlSource(Source):
    """A file on the web, downloaded once."""

    kind: ClassVar[str] = "url"

    url: Annotated[str, AfterValidator(_web_address)] = Field(
        description="Web address of the file, http or https.",
        json_schema_extra={"pattern": "^https?://[^/\\s]+"},
    )
    sha256: Sha256

    @property
    def filename(self) -> str:
        """Name of the file in the results folder."""
        return _last_part(urlsplit(self.url).path)


class PackageSource(Source):
    """A file inside an installed Python package."""

    kind: ClassVar[str] = "package"

    package: str = Field(
        min_length=1, description="Name of the distribution, as `pip list` shows it."
    )
    file: Annotated[str, AfterValidator(_inside)] = Field(
        description="The file's path in the distribution's list of files "
        "(`pip show --files PACKAGE`), or the end of that path if only one file has it."
    )
    sha256: Sha256

    @property
    def filename(self) -> str:
        """Name of the file in the results folder."""
        return _last_part(self.file)

    def findings(self, path: KeyPath, root: Path) -> Iterator[Finding]:
        """Find that the package is not installed or has no such file."""
        try:
            packaged_file(self.package, self.file)
        except PackagedFileError as error:
            value, allowed = f"{self.package}: {self.file}", "a file of an installed package"
            yield Finding((*path, "file"), error.problem, allowed, error.fix, value)


class TrainSource(Source):
    """Weights that the module's `train()` makes, reproducibly."""

    kind: ClassVar[str] = "train"
    made: ClassVar[bool] = True
    functions: ClassVar[tuple[str, ...]] = ("train",)

    train: Literal[True] = Field(
        description="Must be true: the module's `train()` makes the weights."
    )
    sha256: Sha256 | None = Field(
        default=None, description="If set, the trained weights must have this sha256."
    )


class RandomSource(Source):
    """Weights as the module's `build()` initializes them, to try an architecture untrained."""

    kind: ClassVar[str] = "random"
    made: ClassVar[bool] = True

    random: int = Field(
        strict=True,
        ge=0,
        lt=2**63,
        description="Seed of torch's generator while `build()` runs, without `weights`.",
    )


_DATA: dict[str, type[Source]] = {"file": FileSource, "url": UrlSource, "package": PackageSource}
SOURCES: dict[str, type[Source]] = {**_DATA, "train": TrainSource, "random": RandomSource}
"""Kinds of sources. Each has a key of its own name, and the last one whose key is there applies."""


def _kind(value: Any) -> str:
    keys = value if isinstance(value, dict) else ()
    return next((kind for kind in reversed(SOURCES) if kind in keys), "file")


def _sources(kinds: dict[str, type[Source]]) -> Any:
    """Return the type of a source of one of these kinds; what is none is refused with examples."""
    forms = {
        "file": "{file: PATH, sha256: …}",
        "url": "{url: ADDRESS, sha256: …}",
        "package": "{package: NAME, file: PATH, sha256: …}",
        "train": "{train: true}",
        "random": "{random: SEED}",
    }
    allowed = "; ".join(forms[kind] for kind in kinds)

    def check(value: Any) -> Any:
        if isinstance(value, dict | Source):
            return value
        fix = f"write one of the allowed forms, e.g. {forms['file']}"
        if isinstance(value, str):
            key = "url" if re.match("https?://", value) else "file"
            fix = f"write {{{key}: {value}, sha256: …}}"
            if "://" in value and key == "file":
                fix = "write the file's https address as `url:`, or download it and use `file:`"
        raise refusal("expected a mapping that names the source", allowed, fix)

    return Annotated[one_of(kinds, _kind), BeforeValidator(check)]


DataSource = _sources(_DATA)
WeightsSource = _sources(SOURCES)


class Model(Strict):
    """A network to build: one Python file, pinned weights and data."""

    module: str = Field(
        min_length=1,
        description="Path of the Python file that defines the model, relative to the project "
        "(the folder of the Snakefile) or absolute.",
    )
    weights: WeightsSource = Field(
        description="Source of the weights: a file, a web address, a file inside an installed "
        "package, `train: true`, or `random: SEED`."
    )
    data: dict[Name, DataSource] = Field(
        default={},
        description="Further pinned files (samples, a tokenizer …), passed to the module by name.",
    )
    options: dict[str, JsonValue] = Field(
        default={},
        description="Passed to the module's functions by name: each function gets the options "
        "that it has a parameter for.",
    )
    imports: list[Annotated[str, Field(min_length=1)]] | None = Field(
        default=None,
        description="What the module imports in ways that its text does not show, such as "
        "`importlib.import_module(name)`: names of modules and packages, and paths with a `/` of "
        "files and folders, relative to the project. All other imports are followed without it, "
        "and a change of what they lead to rebuilds the model. Without the key, imports that "
        "cannot be followed are errors; `[]` declares that they lead to locked packages only.",
    )
