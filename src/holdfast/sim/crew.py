"""Worker processes for a campaign: both cores run worlds, this process deals them out and listens.

Owns: the processes. One that dies or hangs costs the case it was at, which is reported as failed, and is replaced; the others go on.

What may never happen here: a process left behind, whatever ends the campaign; a case dealt twice or lost.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Generator, Iterable
from itertools import islice
from typing import IO

import msgspec

from ..clock import SystemClock
from ..errors import ConfigError
from .scenario import Case, Failure, Outcome

DEALT_MAX = 2
"""Cases a worker has at a time: the one it runs, and the next, so that it never waits for us."""

CASE_MAX_S = 60.0
"""Real time one world may take. Worlds take milliseconds; one that takes a minute computes for ever."""

LOOK_S = 1.0
"""How often it is looked at. More than that between two looks is time in which this process stood still (a lid closed, Ctrl-Z), and so did
the workers: it is nobody's fault."""

DEATHS_MAX = 10
"""Processes that may be lost in one campaign. After that it ends early: what loses so many would lose one for every world."""

HANGS = "the world hangs in real time"
WORKER_DIED = "the world ends its process"

READ_BYTES = 65536
TOLD_LINES = 12


class _Worker:
    """One process, what it was dealt, and how long it has worked on the first of these."""

    def __init__(self, place: str) -> None:
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 # closed with the process
        path = os.pathsep.join(filter(None, [*sys.path, os.environ.get("PYTHONPATH")]))
        self.process = subprocess.Popen(  # noqa: S603 # ourselves, by name
            [sys.executable, "-m", f"{__package__}.worker", place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            env={**os.environ, "PYTHONPATH": path},
        )
        self.dealt: deque[Case] = deque()
        self.ready = False
        self.spent_s = 0.0
        self._unread = b""

    @property
    def pipe(self) -> IO[bytes]:
        assert self.process.stdout is not None
        return self.process.stdout

    def deal(self, case: Case) -> None:
        """Give it one more; one that has died meanwhile is noticed when it is read from."""
        if not self.dealt:
            self.spent_s = 0.0
        self.dealt.append(case)
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(msgspec.json.encode(case) + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # the end of its stdout says the same, and is looked at

    def read(self) -> list[bytes] | None:
        """The lines that have come; None when it has ended."""
        data = os.read(self.pipe.fileno(), READ_BYTES)
        if not data:
            return None
        *lines, self._unread = (self._unread + data).split(b"\n")
        return lines

    def last_words(self) -> str:
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").splitlines()
        return "\n".join(lines[-TOLD_LINES:])

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout, self.errors):
            if pipe is not None:
                try:
                    pipe.close()
                except BrokenPipeError:
                    pass  # what it was dealt and did not take


class Crew:
    """A runner (see `explore`) with worker processes.

    Args:
        place: `FILE::NAME` of the scenario; each worker imports it.
        workers: how many processes.
        case_max_s: real time one world may take before its process is ended.
    """

    def __init__(self, place: str, workers: int, *, case_max_s: float = CASE_MAX_S) -> None:
        self._place = place
        self._workers = workers
        self._case_max_s = case_max_s
        self._crew: list[_Worker] = []
        self._deaths = 0
        self._given_up = False

    def __call__(self, cases: Iterable[Case]) -> Generator[Outcome, None, None]:
        """Run the cases; outcomes come as they are ready. Closing the generator, or an exception in it, ends the processes.

        Raises: ConfigError when a worker cannot load the scenario.
        """
        rest = iter(cases)
        todo = deque(islice(rest, self._workers * DEALT_MAX))
        self._given_up = False
        try:
            self._crew = [_Worker(self._place) for _ in range(min(self._workers, len(todo)))]
            while True:
                for worker in self._crew:
                    while len(worker.dealt) < DEALT_MAX and not self._given_up:
                        todo.extend(() if todo else islice(rest, 1))
                        if not todo:
                            break
                        worker.deal(todo.popleft())
                if not any(each.dealt for each in self._crew):
                    return
                yield from self._wait(todo)
        finally:
            for worker in self._crew:
                worker.end()
            self._crew = []

    def _wait(self, todo: deque[Case]) -> Generator[Outcome, None, None]:
        busy = [each for each in self._crew if each.dealt]
        with selectors.DefaultSelector() as selector:
            for worker in busy:
                selector.register(worker.pipe, selectors.EVENT_READ, worker)
            began_at = SystemClock.now()
            ready = [key.data for key, _ in selector.select(LOOK_S)]
            passed_s = min(SystemClock.now() - began_at, LOOK_S)
        for worker in busy:
            worker.spent_s += passed_s
        for worker in ready:
            yield from self._hear(worker, todo)
        for worker in [each for each in self._crew if each.dealt and each.spent_s >= self._case_max_s]:
            yield self._replace(worker, todo, HANGS, f"the world had not ended after {self._case_max_s:g} s of real time")

    def _hear(self, worker: _Worker, todo: deque[Case]) -> Generator[Outcome, None, None]:
        lines = worker.read()
        if lines is None:
            code = worker.process.wait()
            if not worker.ready:
                raise ConfigError(f"a worker process cannot run {self._place}:\n{worker.last_words()}")
            yield self._replace(worker, todo, WORKER_DIED, f"the process that ran this world ended with {code}\n{worker.last_words()}")
            return
        for line in lines:
            worker.spent_s = 0.0
            if not worker.ready:
                worker.ready = True
                continue
            worker.dealt.popleft()
            yield msgspec.json.decode(line, type=Outcome)

    def _replace(self, worker: _Worker, todo: deque[Case], kind: str, message: str) -> Outcome:
        """End a worker, blame the case it was at, and let another process do the rest."""
        blamed, *rest = worker.dealt
        todo.extendleft(reversed(rest))
        self._deaths += 1
        if self._deaths >= DEATHS_MAX:
            self._given_up = True
        worker.end()
        self._crew[self._crew.index(worker)] = _Worker(self._place)
        return Outcome(case=blamed, digest="", failure=Failure(signature=kind, message=message, at_s=0.0))
