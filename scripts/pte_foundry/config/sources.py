"""Where weights, data and snapshots of a model come from: one class and one table entry a kind."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field

from pte_foundry.config.base import Strict, one_of, refusal
from pte_foundry.config.source_values import Sha256, commit, inside, repository, web_address
from pte_foundry.findings import Finding, KeyPath
from pte_foundry.models.snapshots import folder_digest
from pte_foundry.packages import PackagedFileError, packaged_file, packaged_folder


class Source(Strict):
    """Where a weights or data file comes from. A kind of source is a subclass."""

    kind: ClassVar[str]
    path_key: ClassVar[str | None] = None
    """The key whose value is a path on this machine."""
    made_by: ClassVar[tuple[str, ...]] = ()
    """Functions of the model's module with which the rule `train` makes the file; if there are
    none, the rule `fetch` gets it."""

    def contents(self, root: Path) -> str | None:
        """Return a digest of what no pin determines; None if there is nothing of that kind."""
        return None

    def findings(self, path: KeyPath, root: Path) -> Iterator[Finding]:
        """Find what is missing on this machine.

        Args:
            path: key path of the source.
            root: the folder that the source's path is relative to.
        """
        yield from ()


def _last_part(path: str) -> str:
    return unquote(path).rsplit("/", 1)[-1]


class FileSource(Source):
    """A file on this machine."""

    kind: ClassVar[str] = "file"
    path_key: ClassVar[str | None] = "file"

    file: str = Field(
        min_length=1, description="Path of the file, relative to the config file or absolute."
    )
    sha256: Sha256

    @property
    def filename(self) -> str:
        """Name of the file in the results folder."""
        return _last_part(self.file)

    def findings(self, path: KeyPath, root: Path) -> Iterator[Finding]:
        """Find that the file does not exist."""
        if not (root / self.file).is_file():
            fix = f"check the path; there is no {root / self.file}"
            key = (*path, "file")
            yield Finding(key, "there is no such file", "an existing file", fix, self.file)


class UrlSource(Source):
    """A file on the web, downloaded once."""

    kind: ClassVar[str] = "url"

    url: Annotated[str, AfterValidator(web_address)] = Field(
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
    file: Annotated[str, AfterValidator(inside)] = Field(
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
    made_by: ClassVar[tuple[str, ...]] = ("train",)

    train: Literal[True] = Field(
        description="Must be true: the module's `train()` makes the weights."
    )
    sha256: Sha256 | None = Field(
        default=None, description="If set, the trained weights must have this sha256."
    )


class RandomSource(Source):
    """Weights as `build()` initializes them, to try an architecture untrained.

    The default gates on quality then only warn, because values are not those of a trained model.
    """

    kind: ClassVar[str] = "random"
    made_by: ClassVar[tuple[str, ...]] = ("build",)

    random: int = Field(
        strict=True,
        ge=0,
        lt=2**63,
        description="Seed of torch's generator while `build()` runs, without `weights`.",
    )


class FolderSource(Source):
    """A folder on this machine, which is packed into one file."""

    kind: ClassVar[str] = "folder"
    path_key: ClassVar[str | None] = "folder"
    filename: ClassVar[str] = "folder.zip"

    folder: str = Field(
        min_length=1, description="Path of the folder, relative to the config file or absolute."
    )

    def contents(self, root: Path) -> str | None:
        """Return a digest of the names and contents of its files."""
        return folder_digest(root / self.folder)

    def findings(self, path: KeyPath, root: Path) -> Iterator[Finding]:
        """Find that the folder does not exist."""
        if not (root / self.folder).is_dir():
            fix = f"check the path; there is no {root / self.folder}"
            key = (*path, "folder")
            yield Finding(key, "there is no such folder", "an existing folder", fix, self.folder)


class PackageFolderSource(Source):
    """A folder inside an installed Python package, which is packed into one file."""

    kind: ClassVar[str] = "package"
    filename: ClassVar[str] = "folder.zip"

    package: str = PackageSource.model_fields["package"]
    folder: Annotated[str, AfterValidator(inside)] = Field(
        description="The folder's path in the distribution's list of files."
    )

    def contents(self, root: Path) -> str | None:
        """Return a digest of the names and contents of its files."""
        try:
            return folder_digest(packaged_folder(self.package, self.folder))
        except PackagedFileError:
            return None

    def findings(self, path: KeyPath, root: Path) -> Iterator[Finding]:
        """Find that the package is not installed or has no such folder."""
        try:
            packaged_folder(self.package, self.folder)
        except PackagedFileError as error:
            value, allowed = f"{self.package}: {self.folder}", "a folder of an installed package"
            yield Finding((*path, "folder"), error.problem, allowed, error.fix, value)


class RepositorySource(Source):
    """A revision of a Hugging Face repository, downloaded once."""

    kind: ClassVar[str] = "repo"
    filename: ClassVar[str] = "folder.zip"

    repo: Annotated[str, AfterValidator(repository)] = Field(
        description="Name of the repository: OWNER/NAME.",
    )
    revision: Annotated[str, AfterValidator(commit)] = Field(
        description="Its commit, 40 hexadecimal digits; a branch would change.",
    )


_FILES: dict[str, type[Source]] = {"file": FileSource, "url": UrlSource, "package": PackageSource}
_PACKED = "package folder"
_DATA: dict[str, type[Source]] = {
    **_FILES,
    "folder": FolderSource,
    _PACKED: PackageFolderSource,
}
_WEIGHTS: dict[str, type[Source]] = {**_FILES, "train": TrainSource, "random": RandomSource}
_SNAPSHOTS: dict[str, type[Source]] = {
    "folder": FolderSource,
    "package": PackageFolderSource,
    "repo": RepositorySource,
}
_DECODERS: dict[str, type[Source]] = {
    "folder": FolderSource,
    **_FILES,
    "repo": RepositorySource,
    _PACKED: PackageFolderSource,
}
_ALL = {**_DATA, **_WEIGHTS, **_SNAPSHOTS}
# Kinds of sources, by what they are sources of. Each has a key of its own name, and the last one
# whose key is there applies.


def _sources(kinds: dict[str, type[Source]]) -> Any:
    """Return the type of a source of one of these kinds; what is none is refused with examples."""
    forms = {
        "file": "{file: PATH, sha256: …}",
        "url": "{url: ADDRESS, sha256: …}",
        "package": "{package: NAME, file: PATH, sha256: …}",
        "train": "{train: true}",
        "random": "{random: SEED}",
        "folder": "{folder: PATH}",
        "repo": "{repo: OWNER/NAME, revision: COMMIT}",
        _PACKED: "{package: NAME, folder: PATH}",
    }
    if kinds is _SNAPSHOTS:
        forms["package"] = forms[_PACKED]
    allowed = "; ".join(forms[kind] for kind in kinds)

    def check(value: Any) -> Any:
        if isinstance(value, dict | Source):
            return value
        fix = f"write one of the allowed forms, e.g. {forms[next(iter(kinds))]}"
        if isinstance(value, str):
            key = "url" if re.match("https?://", value) else next(iter(kinds))
            pin = ", sha256: …" if key in _FILES else ""
            fix = f"write {{{key}: {value}{pin}}}"
            if "://" in value and key == "file":
                fix = "write the file's https address as `url:`, or download it and use `file:`"
        raise refusal("expected a mapping that names the source", allowed, fix)

    def kind_of(value: Any) -> str:
        keys = value if isinstance(value, dict) else ()
        if _PACKED in kinds and {"package", "folder"} <= set(keys):
            return _PACKED
        known = [*(kind for kind in _ALL if kind not in kinds), *kinds]
        return next((kind for kind in reversed(known) if kind in keys), next(iter(kinds)))

    return Annotated[one_of(kinds, kind_of), BeforeValidator(check)]


FileSources = _sources(_FILES)
DataSource = _sources(_DATA)
WeightsSource = _sources(_WEIGHTS)
SnapshotSource = _sources(_SNAPSHOTS)
DecoderSource = _sources(_DECODERS)
