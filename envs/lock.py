"""Resolves requirements.in and models.in into locks that pin every file by its digest.

`make lock` runs this. Versions are the newest that the requirements allow, the same in all locks.
The CPU build of torch must be in a folder named in PIP_FIND_LINKS, or on the index TORCH_INDEX.
"""

import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = """\
# Made by `make lock` from requirements.in and models.in. Installed with --require-hashes --no-deps.
# CPython 3.11 on {}.
"""
LINUX = "x86_64-manylinux_2_28"  # the oldest that torch has a wheel for
MACOS = "14.0"  # likewise


def resolve(uv: Path, name: str, *options: str | Path) -> str:
    command = [uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-header"]
    command += ["--no-emit-index-url", "--python-version", "3.11", *options, HERE / name]
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": MACOS}
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env=environment)
    return done.stdout


def pinned(lock: str) -> list[str]:
    return re.findall(r"^[\w.-]+==[\w.+!-]+", lock, re.MULTILINE)


def main() -> None:
    links = os.environ.get("PIP_FIND_LINKS", "").split()
    if index := os.environ.get("TORCH_INDEX"):
        links.append(f"{index.rstrip('/')}/torch/")
    find_links = [option for link in links for option in ("--find-links", link)]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        binaries = Path(folder, "bin")
        subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
        uv = binaries / "uv"
        linux, macos = ("--python-platform", LINUX), ("--python-platform", "aarch64-apple-darwin")
        models = resolve(uv, "models.in", "--no-deps", *linux)
        cpu = resolve(uv, "requirements.in", *linux, *find_links)
        # pip finds the build by its digest. Its label is no part of the version.
        cpu, found = re.subn(r"^(torch==[\d.]+)\+cpu", r"\1", cpu, flags=re.MULTILINE)
        if not found:
            sys.exit("error: no CPU build of torch; name a folder of it in PIP_FIND_LINKS")
        same = Path(folder, "versions.txt")
        same.write_text("\n".join(pinned(cpu)), encoding="utf-8")
        cuda = resolve(uv, "requirements.in", *linux, "--constraint", same)
        macos = resolve(uv, "requirements.in", *macos, "--constraint", same)
    for name, system, text in (
        ("requirements.lock", "Linux x86-64, with the CPU build of torch", cpu),
        ("requirements-cuda.lock", "Linux x86-64, with torch as the default index has it", cuda),
        ("requirements-macos.lock", f"macOS {MACOS} arm64 or newer", macos),
    ):
        (HERE / name).write_text(HEADER.format(system) + text + models, encoding="utf-8")


if __name__ == "__main__":
    main()
