#!/bin/sh
# make_venv.sh VERSION PYTHON: build .venv/bench-VERSION with what the benchmark measures, at the versions pinned in requirements/bench.txt, so
# that the environments of the tests stay as they are. A peer that cannot be installed here is named and left out; the run says so again.
set -eu

version=$1
python=$2
venv=.venv/bench-$version

say() { printf '%s\n' "$*" >&2; }

say "setting up $venv from $python (once)"
rm -f "$venv/.stamp"
if [ ! -x "$venv/bin/python" ] && ! "$python" -m venv "$venv"; then
    say "$python cannot make a virtual environment: install its venv module (on Debian: apt-get install python$version-venv) and run make again"
    exit 1
fi
pip="$venv/bin/python -m pip --disable-pip-version-check --quiet --retries 8 --timeout 60"
if ! $pip install --requirement requirements/bench.txt; then
    say "not everything in requirements/bench.txt can be installed for Python $version; trying one after the other"
    grep -v '^#' requirements/bench.txt | while read -r requirement; do
        [ -z "$requirement" ] || $pip install --no-deps "$requirement" || say "left out: $requirement"
    done
fi
if ! $pip install --no-deps --no-build-isolation --editable .; then
    say "pip could not install holdfast itself for Python $version (see above)"
    exit 1
fi

# The broker that nats-py needs is no Python package. Debian's is unpacked beside the sources, without root, unless there is one on PATH.
broker=.cache/nats-server
if ! command -v nats-server >/dev/null 2>&1 && [ ! -x "$broker/usr/sbin/nats-server" ]; then
    mkdir -p "$broker"
    printf '*\n' > .cache/.gitignore
    if (cd "$broker" && apt-get -qq download nats-server) >/dev/null 2>&1 && dpkg -x "$broker"/nats-server_*.deb "$broker"; then
        rm -f "$broker"/nats-server_*.deb
    else
        say "left out: nats-server (no apt-get, or it has none); put one on PATH to have nats measured"
    fi
fi
: > "$venv/.stamp"
