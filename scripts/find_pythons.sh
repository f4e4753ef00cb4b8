#!/bin/sh
# Print one `VERSION=PATH` for every Python we support that is present, the one to run everything on first:
# 3.11 when it is there (the oldest we promise), else the newest.
set -u

pyenv_root=${PYENV_ROOT:-$(pyenv root 2>/dev/null || true)}

# A candidate counts only when it runs and is what its name says: pyenv's shims exist for versions that are not selected.
is_version() {
    "$1" -c "import sys; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" >/dev/null 2>&1
}

find_version() {
    for candidate in "$(command -v "python$1" 2>/dev/null)" "$pyenv_root"/versions/"$1"*/bin/python \
        "$(command -v python3 2>/dev/null)" "$(command -v python 2>/dev/null)"; do
        if [ -n "$candidate" ] && [ -x "$candidate" ] && is_version "$candidate" "$1"; then
            # The interpreter itself, not the shim that led to it.
            printf '%s=%s\n' "$1" "$("$candidate" -c 'import sys; print(sys.executable)')"
            return
        fi
    done
}

found=$(for version in 3.11 3.13 3.12; do find_version "$version"; done)
# Newer than we test on, but better than nothing.
printf '%s\n' "${found:-$(find_version 3.14)}"
