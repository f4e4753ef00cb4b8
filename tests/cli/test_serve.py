"""`holdfast serve` as a real process: ready means callable, signals drain, mistakes are one line."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.processes import APP_DIR, ENVIRONMENT, holdfast, one_line, running, serving

pytestmark = pytest.mark.slow  # a process per case

STOPS = [signal.SIGTERM, signal.SIGINT]


def test_ready_carries_addresses_with_the_real_port_and_the_pid() -> None:
    with serving() as (process, address):
        port = int(address.rpartition(":")[2])
        assert address.startswith("tcp://127.0.0.1:")
        assert port > 0
        socket.create_connection(("127.0.0.1", port), timeout=10).close()
        process.tell(signal.SIGTERM)
        assert process.code() == 0
        records = [json.loads(line) for line in process.out.rest()]
    ready = next(r for r in records if r["event"] == "ready")
    assert ready["service"] == "shop"
    assert ready["methods"] == 12
    assert [r["event"] for r in records if r["event"] in ("listening", "ready", "signal_received", "stopped")] == [
        "listening",
        "ready",
        "signal_received",
        "stopped",
    ]


def test_several_addresses_from_flags_and_environment(tmp_path: Path) -> None:
    path = f"unix://{tmp_path}/s"
    with running("serve", "demo_app", "--app-dir", APP_DIR, "--json", HOLDFAST_BIND=f"tcp://127.0.0.1:0 {path}") as process:
        ready = json.loads(process.out.until('"ready"'))
        assert len(ready["addresses"]) == 2
        assert ready["addresses"][1] == path
        process.tell(signal.SIGTERM)
        assert process.code() == 0


def test_verbose_says_how_it_listens() -> None:
    with serving("-v") as (process, address):
        process.tell(signal.SIGTERM)
        assert process.code() == 0
        records = [json.loads(line) for line in process.out.rest()]
    (listens,) = [record for record in records if record["event"] == "listens_with"]
    assert listens["address"] == address
    assert listens["options"]["nodelay"] is True
    assert listens["options"]["connections_max"] >= 1


def test_quiet_still_says_ready_and_nothing_else() -> None:
    with serving("-q") as (process, _):
        process.tell(signal.SIGTERM)
        assert process.code() == 0
        assert [json.loads(line)["event"] for line in process.out.rest()] == ["ready"]


@pytest.mark.parametrize("number", STOPS)
def test_the_first_signal_drains_and_the_second_stops(number: signal.Signals) -> None:
    with serving("--drain", "10m") as (process, address), running("call", address, "shop.sleep", "--deadline", "10m") as caller:
        process.err.until("sleeping")
        process.tell(number)
        process.out.until("draining")
        assert process.process.poll() is None
        process.tell(number)
        assert process.code() == 130
        assert caller.code() in (1, 3)


def test_a_drain_ends_when_its_time_is_up() -> None:
    with serving("--drain", "50ms") as (process, address), running("call", address, "shop.sleep", "--deadline", "10m"):
        process.err.until("sleeping")
        process.tell(signal.SIGTERM)
        assert process.code() == 0
        assert json.loads(process.out.rest()[-1])["cut"] == 1


def test_a_handler_that_raises_is_in_the_log_and_not_in_the_answer() -> None:
    with serving() as (process, address):
        done = holdfast("call", address, "shop.crash")
        assert done.returncode == 1
        assert b"secret" not in done.stderr
        record = json.loads(process.out.until("handler_failed"))
        assert record["error"] == "ValueError: a secret of the handler"
        assert record["incident"] in done.stderr.decode()


def test_on_a_terminal_people_get_a_block_and_text() -> None:
    controller, terminal = pty.openpty()
    words = [sys.executable, "-m", "holdfast", "serve", "demo_app:svc", "--app-dir", APP_DIR, "--bind", "tcp://127.0.0.1:0"]
    process = subprocess.Popen(words, stdout=terminal, stdin=terminal, stderr=terminal, env={**ENVIRONMENT, "TERM": "xterm"})
    os.close(terminal)
    try:
        text = _read_until(controller, "again to stop now")
        assert "service   shop (12 methods)" in text
        assert "listen    tcp://127.0.0.1:" in text
        assert f"pid {process.pid}" in text
        process.send_signal(signal.SIGTERM)
        assert "signal received" in _read_until(controller, "stopped")
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.wait()
        os.close(controller)


def _read_until(descriptor: int, word: str) -> str:
    text = ""
    while word not in text:
        text += os.read(descriptor, 4_096).decode()
    return text


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = holdfast("serve", "demo_app", "--app-dir", APP_DIR, "--bind", address)
    assert done.returncode == 2
    assert "in use" in one_line(done)
    assert done.stdout == b""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo_app:svk"], "the module 'demo_app' has no 'svk', did you mean 'svc'?"),
        (["demo_ap:svc"], "there is no module 'demo_ap'"),
        (["demo_app:place"], "demo_app:place is a function, not a Service"),
        (["demo_app", "--workers", "2"], "more than one worker is not there yet"),
        (["demo_app", "--bind", "tcp://127.0.0.1"], "tcp://"),
        (["demo_app", "--bind", "tcp://0.0.0.0:0"], "--insecure"),
    ],
)
def test_mistakes_at_start_are_one_line_and_exit_2(words: list[str], message: str) -> None:
    done = holdfast("serve", *words, "--app-dir", APP_DIR)
    assert done.returncode == 2
    assert message in one_line(done)


def test_the_current_directory_is_searched() -> None:
    done = holdfast("serve", "demo_app:nope", cwd=APP_DIR)
    assert done.returncode == 2
    assert "the module 'demo_app' has no 'nope'" in one_line(done)
