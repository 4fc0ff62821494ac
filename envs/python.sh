#!/usr/bin/env bash
# Prints the path of a Python 3.11 that can create the environment: $PYTHON if it is set, else the
# environment's own, else the first on PATH, else one that uv or pyenv installed.
set -u
cd "$(dirname "$0")/.." || exit 1
FIX="name one: make PYTHON=/path/to/python3.11"

# ensurepip is a package of its own on Debian and Ubuntu.
VERSION='import sys; sys.exit(sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11))'
runs() { "$1" -I -S -c "$2" >/dev/null 2>&1 </dev/null; }

candidates() {
  if [ -n "${PYTHON:-}" ]; then
    type -p "$PYTHON"
    return
  fi
  echo "$PWD/.venv/bin/python"
  type -ap python3.11 python3 python
  uv python find --system --no-python-downloads 3.11 2>/dev/null
  ls -d "${PYENV_ROOT:-${HOME:-}/.pyenv}"/versions/3.11.*/bin/python 2>/dev/null
}

incomplete=
while IFS= read -r python; do
  runs "$python" "$VERSION" || continue
  if runs "$python" "import ensurepip, venv"; then
    echo "$python"
    exit 0
  fi
  incomplete=${incomplete:-$python}
done < <(candidates)

if [ -n "$incomplete" ]; then
  echo "error: $incomplete has no module ensurepip; install it (Debian, Ubuntu: apt install" \
    "python3.11-venv), or $FIX" >&2
elif [ -n "${PYTHON:-}" ]; then
  echo "error: PYTHON=$PYTHON is not a CPython 3.11; $FIX" >&2
else
  echo "error: no Python 3.11 found on PATH, by uv or by pyenv; install it (for example: uv python" \
    "install 3.11), or $FIX" >&2
fi
exit 1
