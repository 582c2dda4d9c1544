#!/bin/sh
# Makes virtual environments of the published workflows and zocalo packages: PYTHON -> DIR/current, and, where a
# Python of 3.12 or newer runs, the newest workflows -> DIR/newest. Usage: install-peers.sh PYTHON DIR
set -eu

PYTHON=$1
DIR=$2

"$PYTHON" -m venv "$DIR/current"
"$DIR/current/bin/pip" install --quiet "workflows>=3.3" "zocalo>=1.5.0"

# Pythons that are not first on the PATH stand beside the one that is, as pyenv and some images lay them out.
beside=$("$PYTHON" -c 'import pathlib, sys; print(pathlib.Path(sys.base_prefix).parent)')
for candidate in python3.13 python3.12 "$beside"/3.13*/bin/python3 "$beside"/3.12*/bin/python3; do
    if "$candidate" -c 'import ssl, sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null; then
        "$candidate" -m venv "$DIR/newest"
        "$DIR/newest/bin/pip" install --quiet "workflows>=3.7" "zocalo>=1.5.0"
        break
    fi
done
