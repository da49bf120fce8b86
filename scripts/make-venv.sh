#!/usr/bin/env bash
# Makes .venv, unless it is there, and installs one lock file into it and this tree on top, editable.
#
#     scripts/make-venv.sh requirements.lock
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

lock=${1:?lock file}
python=${PYTHON:-python3}

if ! command -v "$python" >/dev/null; then
    echo "$python is not here: install Python 3.11 or newer, or name yours: make PYTHON=/path/to/python3 …" >&2
    exit 1
fi
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed; $(command -v "$python") is $("$python" -V 2>&1)." \
        "Name another: make PYTHON=/path/to/python3 …" >&2
    exit 1
fi

if ! .venv/bin/python -c '' 2>/dev/null; then
    rm -rf .venv # half made, or its Python has gone
    "$python" -m venv .venv
fi

pip=(.venv/bin/python -m pip --disable-pip-version-check --no-input --quiet)
"${pip[@]}" install --require-hashes -r "$lock"
# The builder itself is pinned too: nothing that runs here comes unhashed.
"${pip[@]}" install --require-hashes -r scripts/requirements-build.lock
"${pip[@]}" install --no-deps --no-build-isolation -e .
