"""HAProxy's configuration and command line: what an experienced user writes for short calls that may fail over."""

from __future__ import annotations

import os
import pathlib

from bench.failover.contenders import UNPACKED, haproxy_path

CONFIG = """\
global
    maxconn 4096
defaults
    mode http
    timeout connect 500ms
    timeout client 30s
    timeout server 900ms
    timeout check 500ms
    timeout http-keep-alive 60s
    retries 3
    option redispatch 1
listen nodes
    bind fd@{descriptor}
    balance leastconn
    option httpchk GET /health
    retry-on conn-failure empty-response response-timeout
    http-request disable-l7-retry if !{{ path_beg /look }}
    default-server inter 500 fall 2 rise 2
{servers}
"""


def config(descriptor: int, ports: list[int]) -> str:
    """Return the configuration: it listens at a socket that we opened, so that the kernel has picked the port."""
    servers = "\n".join(f"    server node{number} 127.0.0.1:{port} check" for number, port in enumerate(ports))
    return CONFIG.format(descriptor=descriptor, servers=servers)


def command(config_file: pathlib.Path) -> list[str]:
    """Return the command line, in the foreground."""
    path = haproxy_path()
    assert path is not None, "Contender.missing() was not asked"
    return [path, "-db", "-f", str(config_file)]


def environment() -> dict[str, str]:
    """Return where the libraries are that were unpacked with it."""
    folders = sorted({str(each.parent) for each in UNPACKED.glob("usr/lib/**/*.so*")})
    return {"LD_LIBRARY_PATH": os.pathsep.join(filter(None, [*folders, os.environ.get("LD_LIBRARY_PATH", "")]))} if folders else {}
