"""The programs on the page for people from Twisted run, and say the same."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, blocks

PATIENCE_S = 50.0
pytestmark = pytest.mark.slow


def programs() -> list[str]:
    """The six programs of the page: server, client and datagrams, each Twisted's first. What follows them is a fragment."""
    found = [block.code for block in blocks((DOCS / "en/howto/from-twisted.md").read_text("utf-8")) if block.info == "python"][:6]
    assert ["twisted" in code for code in found] == [True, False] * 3
    return found


SERVERS, CLIENTS, DATAGRAMS = (programs()[at : at + 2] for at in (0, 2, 4))
both = pytest.mark.parametrize("side", [0, 1], ids=["twisted", "holdfast"])


@contextlib.contextmanager
def running(code: str, folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    file = folder / "program.py"
    file.write_text(code, "utf-8")
    command = [sys.executable, str(file), *words]
    with subprocess.Popen(command, env=dict(os.environ), stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def port_of(process: subprocess.Popen[str]) -> int:
    assert process.stdout is not None
    return int(process.stdout.readline())


def conversation(port: int) -> list[bytes]:
    """What two guests of a server of lines hear."""
    heard = []
    for lines in ([b"hello\nwor", b"ld\n\n", b"quit\nnever heard\n"], [b"quit\n"]):
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as guest:
            for line in lines:
                guest.sendall(line)
            whole = b""
            with contextlib.suppress(ConnectionResetError):
                while data := guest.recv(4096):
                    whole += data
            heard.append(whole)
    return heard


@both
def test_the_servers_of_lines_say_the_same(side: int, tmp_path: Path) -> None:
    with running(SERVERS[side], tmp_path) as server:
        assert conversation(port_of(server)) == [b"guest 1\nHELLO\nWORLD\n\n", b"guest 2\n"]
        server.send_signal(signal.SIGTERM)
        assert server.wait(PATIENCE_S) in (0, -signal.SIGTERM)


@both
def test_the_clients_come_back_to_either_server(side: int, tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    with running(SERVERS[1 - side], tmp_path) as server, running(CLIENTS[side], tmp_path / "client", str(port_of(server))) as client:
        assert client.stdout is not None
        assert client.stdout.read() == "greeting 1\ngreeting 2\ngreeting 3\n"
        assert client.wait(PATIENCE_S) == 0


@both
def test_the_datagrams_come_back_reversed(side: int, tmp_path: Path) -> None:
    with running(DATAGRAMS[side], tmp_path) as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as guest:
        guest.settimeout(PATIENCE_S)
        guest.connect(("127.0.0.1", port_of(server)))
        guest.send(b"hello")
        assert guest.recv(100) == b"olleh"
