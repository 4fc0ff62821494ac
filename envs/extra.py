"""Packages beside those of the lock: `make environment EXTRA=FILE`, or envs/extra.in.

FILE lists requirements, as for pip. They are resolved against the lock, which does not change, and
pinned with hashes in a file beside it, which is to be committed: `extra.lock` of `extra.in`.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

DEFAULT = "extra.in"
INSTALLED = "extra.lock"
"""The lock of the extra packages in an environment; pte_foundry.lock looks for it there."""

_PINS = re.compile(r"^([\w.-]+==[^\s;\\]+)", re.MULTILINE)


class ExtraError(Exception):
    """What is wrong and how to fix it, in one line."""


def chosen(here: Path, folder: Path) -> Path | None:
    """Returns the file of extra requirements, if there is one.

    EXTRA names it, and counts from then on, until it is given as an empty word.

    Args:
        here: the folder `envs`.
        folder: where environments are, and which file was chosen.
    """
    remembered = folder / "extra"
    given = os.environ.get("EXTRA")
    if given is None:
        given = remembered.read_text("utf-8") if remembered.exists() else ""
    elif not given:
        remembered.unlink(missing_ok=True)
    if not given:
        return here / DEFAULT if (here / DEFAULT).is_file() else None
    path = Path(given).absolute()
    if not path.is_file():
        raise ExtraError(
            f"EXTRA={given}: there is no such file, which lists requirements as for pip. EXTRA= "
            "without a name forgets an earlier one"
        )
    folder.mkdir(exist_ok=True)
    remembered.write_text(str(path), "utf-8")
    return path


def lock_of(extra: Path) -> Path:
    """Returns the path of the lock of a file of extra requirements."""
    return extra.with_suffix(".lock")


def is_resolved(extra: Path, lock: str) -> bool:
    """Whether the lock of extra requirements is of their present text and the present lock."""
    path = lock_of(extra)
    return path.is_file() and f"# {_key(extra, lock)}\n" in path.read_text("utf-8")


def resolve(python: Path, extra: Path, lock: str, work: Path) -> None:
    """Writes the lock of extra requirements.

    Args:
        python: that of an environment with the packages of the lock.
        extra: the requirements.
        lock: the text of the lock.
        work: a folder for temporary files.
    """
    print(f"Resolving {extra} against the lock", flush=True)
    constraints, report = work / "constraints.txt", work / "report.json"
    constraints.write_text("\n".join(_PINS.findall(lock)), "utf-8")
    command = [python, "-I", "-m", "pip", "install", "--quiet", "--dry-run", "--no-input"]
    command += ["--disable-pip-version-check", "--report", report, "--constraint", constraints]
    done = subprocess.run(
        [*command, "--requirement", extra], text=True, capture_output=True, cwd=extra.parent
    )
    if done.returncode:
        raise ExtraError(
            f"{extra} cannot be resolved against the lock, whose versions do not change:\n"
            f"{(done.stderr or done.stdout).strip()}"
        )
    found = json.loads(report.read_text("utf-8"))["install"]
    pins = sorted(_pin(entry, extra) for entry in found)
    text = f"# Made by `make environment` from {extra.name}; commit both.\n# {_key(extra, lock)}\n"
    written = work / "extra.lock"
    written.write_text(text + "".join(pins), "utf-8")
    shutil.copyfile(written, lock_of(extra))


def extend(base: Path, made: Path) -> None:
    """Copies an environment by links to its files (link(2)), which take no space."""
    try:
        shutil.copytree(base, made, symlinks=True, copy_function=os.link)
    except (OSError, shutil.Error):  # a file system without links
        shutil.rmtree(made, ignore_errors=True)
        shutil.copytree(base, made, symlinks=True)
    settings = made / "pyvenv.cfg"  # which every Python of an environment locks: a file of its own
    content = settings.read_bytes()
    settings.unlink()
    settings.write_bytes(content)


def _pin(entry: dict, extra: Path) -> str:
    name, version = entry["metadata"]["name"], entry["metadata"]["version"]
    source = entry["download_info"]
    archive = source.get("archive_info", {})
    digest = archive.get("hashes", {}).get("sha256")
    if digest is None and archive.get("hash", "").startswith("sha256="):
        digest = archive["hash"].removeprefix("sha256=")
    if digest is None:
        raise ExtraError(
            f"{name} in {extra} is from {source.get('url')}, which has no sha256; name a wheel"
        )
    pinned = f"{name} @ {source['url']}" if entry.get("is_direct") else f"{name}=={version}"
    return f"{pinned} \\\n    --hash=sha256:{digest}\n"


def _key(extra: Path, lock: str) -> str:
    """Identifies the requirements and the versions of the lock."""
    lines = [line.split("#")[0].strip() for line in extra.read_text("utf-8").splitlines()]
    parts = "\n".join([*filter(None, lines), "", *sorted(_PINS.findall(lock))])
    return f"for {hashlib.sha256(parts.encode()).hexdigest()}"
