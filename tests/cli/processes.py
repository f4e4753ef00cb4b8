"""The command line as real processes: started, read line by line, told by signals, and always ended."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

APP_DIR = str(Path(__file__).parent)
PATIENCE_S = 30.0
"""How long a test waits for something that must come; only a failure takes this long."""

ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("HOLDFAST_") and k != "NO_COLOR"}


def holdfast(*words: str, stdin: bytes = b"", cwd: str | Path | None = None, **env: str) -> subprocess.CompletedProcess[bytes]:
    """Run the command line to its end."""
    command = [sys.executable, "-m", "holdfast", *words]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=PATIENCE_S, cwd=cwd, env={**ENVIRONMENT, **env})


def one_line(process: subprocess.CompletedProcess[bytes]) -> str:
    """What a failed process said: exactly one line, without a traceback."""
    text = process.stderr.decode()
    assert text.count("\n") == 1, text
    assert text.startswith("holdfast: "), text
    return text.strip()


class Lines:
    """The lines of a pipe, read by a thread, so that waiting for one is bounded."""

    def __init__(self, pipe: Any) -> None:
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.seen: list[str] = []
        self._thread = threading.Thread(target=self._read, args=(pipe,), daemon=True)
        self._thread.start()

    def _read(self, pipe: Any) -> None:
        for line in pipe:
            self._lines.put(line.decode().rstrip("\n"))
        self._lines.put(None)

    def until(self, word: str) -> str:
        """Return the first line that has `word` in it."""
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            self.seen.append(line)
            if word in line:
                return line
        raise AssertionError(f"the process ended and never said {word!r}; it said {self.seen}")

    def rest(self) -> list[str]:
        """Return every line up to the end of the pipe."""
        while (line := self._lines.get(timeout=PATIENCE_S)) is not None:
            self.seen.append(line)
        return self.seen


class Running:
    """A process that goes on until it is told."""

    def __init__(self, words: Sequence[str], **env: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "holdfast", *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**ENVIRONMENT, **env},
        )
        self.out = Lines(self.process.stdout)
        self.err = Lines(self.process.stderr)

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def code(self) -> int:
        """The exit code, once it ends."""
        return self.process.wait(timeout=PATIENCE_S)


@contextmanager
def started(words: Sequence[str], *, stdin: int, stdout: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a process on given descriptors, its stderr in a pipe, and end it in any case."""
    process = subprocess.Popen(
        [sys.executable, "-m", "holdfast", *words], stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, env=ENVIRONMENT
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()


@contextmanager
def running(*words: str, **env: str) -> Iterator[Running]:
    """Start a process with pipes and end it in any case."""
    running = Running(words, **env)
    try:
        yield running
    finally:
        running.process.kill()
        running.process.wait()
        for pipe in (running.process.stdin, running.process.stdout, running.process.stderr):
            if pipe is not None:
                pipe.close()


@contextmanager
def serving(*words: str, target: str = "demo_app:svc", **env: str) -> Iterator[tuple[Running, str]]:
    """A service on a free port: the process and its address."""
    with running("serve", target, "--app-dir", APP_DIR, "--bind", "tcp://127.0.0.1:0", "--json", *words, **env) as process:
        ready = json.loads(process.out.until('"ready"'))
        assert ready["pid"] == process.process.pid
        yield process, ready["addresses"][0]
