"""Resolves requirements.in and models.in into requirements.lock, with the digest of every file.

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
# CPython 3.11 on Linux x86-64.
"""


def resolve(uv: Path, name: str, *options: str) -> str:
    command = [uv, "pip", "compile", "--quiet", "--generate-hashes", "--no-annotate", "--no-header"]
    command += ["--no-emit-index-url", "--python-version", "3.11", *options, HERE / name]
    for folder in os.environ.get("PIP_FIND_LINKS", "").split():
        command += ["--find-links", folder]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        binaries = Path(folder, "bin")
        subprocess.run([binaries / "python", "-m", "pip", "install", "--quiet", "uv"], check=True)
        tools = resolve(binaries / "uv", "requirements.in")
        models = resolve(binaries / "uv", "models.in", "--no-deps")
    # The build's label is not part of the version that is asked for: the digest tells builds apart.
    tools = re.sub(r"^(torch==[\d.]+)\+cpu", r"\1", tools, flags=re.MULTILINE)
    (HERE / "requirements.lock").write_text(HEADER + tools + models, encoding="utf-8")


if __name__ == "__main__":
    main()
