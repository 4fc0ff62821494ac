"""Resolves requirements.in and models.in into one lock per system, with the digest of every file.

`make lock` runs this. Where the CPU build of torch lies in a folder, name it in PIP_FIND_LINKS.
"""

import os
import re
import subprocess
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = """\
# Made by `make lock` from requirements.in and models.in. Installed with --require-hashes --no-deps.
# CPython 3.11 on {}.
"""
MACOS = "14.0"  # the oldest that torch has a wheel for


def resolve(uv: Path, name: str | Path, *options: str | Path) -> str:
    command = [uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-header"]
    command += ["--no-emit-index-url", "--python-version", "3.11", *options, HERE / name]
    for folder in os.environ.get("PIP_FIND_LINKS", "").split():
        command += ["--find-links", folder]
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": MACOS}
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, env=environment)
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        binaries = Path(folder, "bin")
        subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
        tools = resolve(binaries / "uv", "requirements.in")
        models = resolve(binaries / "uv", "models.in", "--no-deps")
        # The build's label is not part of the version that is asked for: the digest tells builds
        # apart.
        tools = re.sub(r"^(torch==[\d.]+)\+cpu", r"\1", tools, flags=re.MULTILINE)
        versions = Path(folder, "versions.txt")  # macOS takes the same
        versions.write_text("\n".join(re.findall(r"^[\w.-]+==[\w.]+", tools, re.MULTILINE)))
        macos = resolve(
            binaries / "uv",
            "requirements.in",
            *("--python-platform", "aarch64-apple-darwin", "--constraint", versions),
        )
    for name, system, text in (
        ("requirements.lock", "Linux x86-64", tools),
        ("requirements-macos.lock", f"macOS {MACOS} arm64 or newer", macos),
    ):
        (HERE / name).write_text(HEADER.format(system) + text + models, encoding="utf-8")


if __name__ == "__main__":
    main()
