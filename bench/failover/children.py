"""The processes of a scene: started here, ended here.

Owns every child, by the process id that it got when it was started. What may never happen here: a child that outlives the scene, also a
frozen one; a signal to a process that is not ours.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from typing import Any

from bench.processes import ROOT

READY_S = 30.0
END_S = 20.0
LOOK_EACH_S = 0.02


class ChildFailed(Exception):
    """A process that did not do its part."""


class Child:
    """One process, in a group of its own: a Ctrl-C is for the run, which ends its children itself. What it prints goes to files."""

    def __init__(self, name: str, command: Sequence[str], folder: pathlib.Path, environment: Mapping[str, str], descriptors: Sequence[int]):
        self.name = name
        self._out = folder / f"{name}.out"
        self._errors = folder / f"{name}.err"
        with self._out.open("wb") as out, self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=errors,
                cwd=ROOT,
                env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
                pass_fds=descriptors,
                start_new_session=True,
            )
        self._heard = 0

    def hear(self, within_s: float = READY_S) -> str:
        """Return the next whole line that it prints. Raises: ChildFailed."""
        give_up_at = time.monotonic() + within_s
        while True:
            text = self._out.read_bytes()
            end = text.find(b"\n", self._heard)
            if end >= 0:
                line, self._heard = text[self._heard : end].decode(), end + 1
                return line
            if self.process.poll() is not None:
                raise ChildFailed(f"{self.name} ended with exit code {self.process.returncode}: {self._last_words()}")
            if time.monotonic() > give_up_at:
                raise ChildFailed(f"{self.name} said nothing for {within_s:.0f} s: {self._last_words()}")
            time.sleep(LOOK_EACH_S)

    def ready(self) -> dict[str, Any]:
        """Return the line with which it says that it is ready. Raises: ChildFailed."""
        while True:
            line = self.hear()
            if line.startswith("{"):
                said: dict[str, Any] = json.loads(line)
                if said.get("event") == "ready":
                    return said

    def tell(self, line: str) -> None:
        """Write a line to its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def hang_up(self) -> None:
        """Close its stdin."""
        assert self.process.stdin is not None
        self.process.stdin.close()

    def signal(self, number: int) -> None:
        """Send a signal to it and whatever it started, unless it has been waited for."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)

    def wait(self, within_s: float = END_S) -> int:
        """Wait for its end; return the exit code. Raises: ChildFailed."""
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            raise ChildFailed(f"{self.name} did not end within {within_s:.0f} s: {self._last_words()}") from None

    def end(self) -> None:
        """End it at once, frozen or not."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        if self.process.stdin is not None:
            try:
                self.process.stdin.close()
            except BrokenPipeError:
                pass  # it went before it had read everything

    def _last_words(self) -> str:
        return " / ".join(self._errors.read_text(errors="replace").strip().splitlines()[-3:]) or "(nothing on stderr)"


class Children:
    """All processes of a scene, as a context manager that leaves none."""

    def __init__(self, folder: pathlib.Path) -> None:
        self._folder = folder
        self._all: list[Child] = []

    def start(
        self, name: str, command: Sequence[str], *, environment: Mapping[str, str] | None = None, descriptors: Sequence[int] = ()
    ) -> Child:
        """Start a process; its output goes to NAME.out and NAME.err."""
        child = Child(name, command, self._folder, environment or {}, descriptors)
        self._all.append(child)
        return child

    def __enter__(self) -> Children:
        return self

    def __exit__(self, *error: object) -> None:
        for child in self._all:
            child.end()
