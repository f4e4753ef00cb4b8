"""The client processes of a run: started, told what to do, heard, merged, and always ended.

Each has a loop and a core of its own; this process only listens, so that what it prints disturbs no measurement. They begin at the same
moment: the monotonic clock is one for all processes of a machine.

Owned here: the processes. What may never happen: one that is left behind, or one that died and is not spoken of in the result.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import cast

import msgspec

from ...errors import HoldfastError, InternalError
from .messages import Failed, Finished, FromParent, FromProcess, Job, Ready, Start, Stop, encode, error_of, make_framing, read_by_parent
from .run import DRAIN_GRACE_S, Progress
from .tally import Measured, joined, merged

MODULE = "holdfast.tools.load.worker"
START_AFTER_S = 0.05
"""All must have heard `Start` by then. A process that hears it later sends its first calls late, and says so."""

STARTING_S = 60.0
GRACE_S = 10.0
ENDING_S = 5.0


class Child(asyncio.SubprocessProtocol):
    """One process as its parent sees it.

    Attributes:
        settled: done when it is ready, or never will be. over: done when it will say nothing more. exited: done when it is gone.
        measured, failed: what it said at its end. why: what is known when it ended without that.
    """

    def __init__(self, name: str, on_progress: Callable[[Progress], None]) -> None:
        loop = asyncio.get_running_loop()
        self.name = name
        self.settled: asyncio.Future[None] = loop.create_future()
        self.over: asyncio.Future[None] = loop.create_future()
        self.exited: asyncio.Future[None] = loop.create_future()
        self.measured: Measured | None = None
        self.failed: HoldfastError | None = None
        self.why = ""
        self._on_progress = on_progress
        self._framing = make_framing()
        self._transport: asyncio.SubprocessTransport | None = None

    # ------------------------------------------------------------------ asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)  # uvloop's is one without saying so

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        for message in self._framing.feed(data):
            self._told(read_by_parent(message))

    def process_exited(self) -> None:
        assert self._transport is not None
        self.end(f"{self.name} {_ending(self._transport.get_returncode())}")
        if not self.exited.done():
            self.exited.set_result(None)

    # ------------------------------------------------------------------ ours

    def _told(self, message: FromProcess) -> None:
        match message:
            case Ready():
                _set(self.settled)
            case Progress():
                self._on_progress(message)
            case Finished(measured):
                self.measured = measured
                self.end("")
            case Failed():
                self.failed = error_of(message)
                self.end(f"{self.name} cannot go on: {message.message}")

    def end(self, why: str) -> None:
        """It will say nothing more, and why; the first reason counts."""
        if not self.over.done():
            self.why = why
            self.over.set_result(None)
            _set(self.settled)

    def send(self, message: FromParent) -> None:
        """Say something to the process, if it can still hear."""
        pipe = None if self._transport is None else self._transport.get_pipe_transport(0)
        if pipe is not None and not pipe.is_closing():
            cast(asyncio.WriteTransport, pipe).write(encode(message))

    async def close(self) -> None:
        """Let it end by itself, or end it. Cancel: it is killed."""
        assert self._transport is not None
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None:
            pipe.close()  # the end of its input is the end of the process
        try:
            async with asyncio.timeout(ENDING_S if self.measured is not None else 0):
                await asyncio.shield(self.exited)
        except TimeoutError:
            self.kill()
            await self.exited
        finally:
            self.kill()
            self._transport.close()

    def kill(self) -> None:
        """End it now."""
        if not self.exited.done() and self._transport is not None:
            self._transport.kill()


class Fleet:
    """All processes of one run. Make it, `run` it once.

    Args:
        job: for all of them; each is given its own number.
        on_progress: told once a second how all of them together do.
    """

    def __init__(self, job: Job, on_progress: Callable[[Progress], None]) -> None:
        self._job = job
        self._on_progress = on_progress
        self._children: list[Child] = []
        self._stopped = False
        self._seconds: dict[int, list[Progress]] = {}

    def stop(self) -> None:
        """End early: `run` returns soon, with what was counted so far."""
        self._stopped = True
        for child in self._children:
            child.send(Stop())

    async def run(self) -> Measured:
        """Start the processes, let them run, and return what they counted together.

        Raises: the error that kept all of them from running: Unavailable, ConfigError, InvalidArgument; InternalError when all died.
        Cancel: the processes are killed; what they counted is lost.
        """
        plan = self._job.plan
        try:
            for process in range(plan.processes):
                await self._start(process)
            await _all([child.settled for child in self._children], STARTING_S)
            self._refuse_unready()
            start_at = time.monotonic() + START_AFTER_S
            for child in self._children:
                child.send(Start(start_at))
            await _all(
                [child.over for child in self._children], plan.warmup_s + plan.duration_s + plan.deadline_s + DRAIN_GRACE_S + GRACE_S
            )
            return self._merged()
        finally:
            await self._close()

    async def _start(self, process: int) -> None:
        name = f"client process {process + 1} of {self._job.plan.processes}"
        _, child = await asyncio.get_running_loop().subprocess_exec(
            lambda: Child(name, self._progressed),
            sys.executable,
            "-m",
            MODULE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,  # ours: what a scenario prints is for the same reader
            start_new_session=True,  # Ctrl-C on a terminal must not reach it
        )
        self._children.append(child)
        child.send(msgspec.structs.replace(self._job, process=process))
        if self._stopped:
            child.send(Stop())

    def _refuse_unready(self) -> None:
        for child in self._children:
            if child.failed is not None:
                raise child.failed
            if child.over.done() or not child.settled.done():
                raise InternalError(child.why or f"{child.name} was not ready within {STARTING_S:g} s")

    def _progressed(self, progress: Progress) -> None:
        """Add up the same second of all processes, and tell it when all have told theirs; those that died tell nothing more."""
        second = round(progress.at_s)
        parts = self._seconds.setdefault(second, [])
        parts.append(progress)
        if len(parts) >= sum(not child.over.done() or child.measured is not None for child in self._children):
            del self._seconds[second]
            self._on_progress(
                Progress(
                    progress.at_s,
                    sum(p.sent for p in parts),
                    sum(p.not_sent for p in parts),
                    sum(p.open for p in parts),
                    joined(p.second for p in parts),
                )
            )

    def _merged(self) -> Measured:
        parts = [child.measured for child in self._children if child.measured is not None]
        lost = [child.why or f"{child.name} did not end in time" for child in self._children if child.measured is None]
        if not parts:
            raise next((child.failed for child in self._children if child.failed is not None), None) or InternalError(lost[0])
        return merged(parts, lost)

    async def _close(self) -> None:
        try:
            await asyncio.gather(*[child.close() for child in self._children])
        finally:
            for child in self._children:
                child.kill()


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def _all(futures: list[asyncio.Future[None]], within_s: float) -> None:
    """Wait for all of them, so long at most."""
    await asyncio.wait(futures, timeout=within_s)


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
