"""Makes an environment independent of the folder it is in."""

import os
import re
import shutil
from pathlib import Path

COMMANDS = {"pte-foundry": "pte_foundry.cli:main"}

# Starts the Python in the script's own folder. The shell executes the second line; to Python it is
# a string.
SHEBANG = b"""\
#!/bin/sh
'''exec' "$(dirname -- "$(realpath -- "$0")")/python" "$0" "$@"
' '''
"""
ACTIVATE = """\
if [ -n "${BASH_VERSION:-}" ] ; then
    VIRTUAL_ENV="${BASH_SOURCE[0]}"
elif [ -n "${ZSH_VERSION:-}" ] ; then
    VIRTUAL_ENV="${(%):-%x}"
elif [ -n "${KSH_VERSION:-}" ] ; then
    VIRTUAL_ENV="${.sh.file}"
else
    VIRTUAL_ENV=.venv/bin/activate
fi
VIRTUAL_ENV="$(dirname -- "$(dirname -- "$(realpath -- "$VIRTUAL_ENV")")")"
"""
ACTIVATE_FISH = "set -gx VIRTUAL_ENV (dirname (dirname (realpath (status filename))))\n"


def make_relocatable(environment: Path) -> None:
    """Removes the environment's own path from its scripts and settings."""
    make_scripts_relocatable(environment)
    for name, line, replacement in (
        ("bin/activate", r"^VIRTUAL_ENV=.*\n", ACTIVATE),
        ("bin/activate.fish", r"^set -gx VIRTUAL_ENV .*\n", ACTIVATE_FISH),
        ("pyvenv.cfg", r"^command = .*\n", ""),
    ):
        file = environment / name
        before, *after = re.split(line, file.read_text("utf-8"), maxsplit=1, flags=re.MULTILINE)
        file.write_text(replacement.join([before, *after]), "utf-8")
    (environment / "bin/activate.csh").unlink()  # csh cannot tell where a script is


def make_scripts_relocatable(environment: Path) -> None:
    """Removes the environment's own path from the scripts that pip has written."""
    binaries = environment / "bin"
    python = re.escape(os.fsencode(binaries / "python")) + rb"[\d.]*"
    short = rb"#!" + python + rb"\n"
    long = rb"#!/bin/sh\n'''exec' \"?" + python + rb".*\n' '''\n"  # also if it contains spaces
    written = re.compile(short + rb"|" + long)
    for script in binaries.iterdir():
        if script.is_file() and not script.is_symlink():
            content = script.read_bytes()
            if found := written.match(content):
                script.write_bytes(SHEBANG + content[found.end() :])


def add_clone(environment: Path) -> None:
    """Makes the clone's packages importable and adds its commands."""
    packages = environment / "lib" / "python3.11" / "site-packages"
    shutil.copyfile(Path(__file__).with_name("startup.py"), packages / "pte_foundry_startup.py")
    (packages / "pte_foundry.pth").write_text("import pte_foundry_startup\n", "utf-8")
    for name, target in COMMANDS.items():
        module, function = target.split(":")
        script = environment / "bin" / name
        code = f"import sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        script.write_bytes(SHEBANG + code.encode())
        script.chmod(0o755)
