#!/bin/sh
# make_venv.sh VERSION PYTHON: build .venv/VERSION with everything the project is tested with, at the versions pinned in requirements/.
# Writes .venv/VERSION/.stamp last, so that half an installation is done again and a whole one is not.
set -eu

version=$1
python=$2
venv=.venv/$version

say() { printf '%s\n' "$*" >&2; }

say "setting up $venv from $python (once)"
rm -f "$venv/.stamp"
if [ ! -x "$venv/bin/python" ] && ! "$python" -m venv "$venv"; then
    say "$python cannot make a virtual environment: install its venv module (on Debian: apt-get install python$version-venv) and run make again"
    exit 1
fi
pip="$venv/bin/python -m pip --disable-pip-version-check --quiet --retries 8 --timeout 60"
if ! $pip install --requirement requirements/dev.txt; then
    say "pip could not install requirements/dev.txt for Python $version (see above); nothing else is wrong with the checkout"
    exit 1
fi
# The build tool is pinned with the rest, so nothing is fetched here.
if ! $pip install --no-deps --no-build-isolation --editable .; then
    say "pip could not install holdfast itself for Python $version (see above)"
    exit 1
fi
: > "$venv/.stamp"
