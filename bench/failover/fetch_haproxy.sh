#!/bin/sh
# fetch_haproxy.sh: unpack Debian's HAProxy and the libraries that are not here beside the sources, without root, unless there is one on PATH.
# What cannot be had is said and left out; the run says so again.
set -eu

folder=.cache/haproxy
say() { printf '%s\n' "$*" >&2; }
works() {
    libraries=$(find "$folder/usr/lib" -name '*.so*' -printf '%h\n' 2>/dev/null | sort -u | paste -sd: -)
    LD_LIBRARY_PATH=$libraries "$folder/usr/sbin/haproxy" -v >/dev/null 2>&1
}

if command -v haproxy >/dev/null 2>&1 || works; then
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || ! command -v dpkg >/dev/null 2>&1; then
    say "left out: haproxy (no apt-get here); put one on PATH to have it compared"
    exit 0
fi
mkdir -p "$folder"
[ -e .cache/.gitignore ] || printf '*\n' > .cache/.gitignore
say "unpacking Debian's haproxy into $folder (once)"
cd "$folder"
for package in haproxy liblua5.3-0 libopentracing-c-wrapper0 libopentracing1 libpcre2-8-0; do
    if apt-get -qq download "$package" >/dev/null 2>&1; then
        dpkg -x "$package"_*.deb . && rm -f "$package"_*.deb
    else
        say "apt-get could not download $package"
    fi
done
cd - >/dev/null
works || say "left out: haproxy (what was unpacked into $folder does not start: try $folder/usr/sbin/haproxy -v)"
