"""One client process of a run: `python -m holdfast.tools.load.worker`, started by `fleet.py` and by nobody else.

It reads its job from standard input and writes what it has to say to standard output. What a scenario prints goes to standard error, so
that it cannot get among the messages.

Owned here: the life of that process. What may never happen: a process that outlives its parent. When standard input ends, so does it.
Ctrl-C is the parent's affair: it says Stop, and hears what was counted.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack

from ...client import Client, connect
from ...clock import Rng, Streams
from ...errors import HoldfastError
from ...runtime.lifecycle import loop_factory
from .calls import method_task, scenario_tasks
from .generate import make_arguments
from .messages import Failed, Finished, FromParent, FromProcess, Job, Ready, Start, Stop, encode, failure, make_framing, read_by_process
from .run import Load, Task
from .scenario import load_scenario

CONNECTING_AT_ONCE = 64


class Inbox(asyncio.Protocol):
    """What the parent says, in order; `on_end` is called when it is gone, or says what nobody understands."""

    def __init__(self, on_message: Callable[[FromParent], None], on_end: Callable[[], object]) -> None:
        self._on_message = on_message
        self._on_end = on_end
        self._framing = make_framing()

    def data_received(self, data: bytes) -> None:
        for message in self._framing.feed(data):
            self._on_message(read_by_process(message))

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_end()


class Worker:
    """The process, without its pipes: it is told messages, and tells others."""

    def __init__(self, tell: Callable[[FromProcess], None]) -> None:
        self._tell = tell
        self._job: asyncio.Future[Job] = asyncio.get_running_loop().create_future()
        self._start: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._load: Load | None = None
        self._stopped = False

    def told(self, message: FromParent) -> None:
        """Take a message from the parent."""
        match message:
            case Job() if not self._job.done():
                self._job.set_result(message)
            case Start(at) if not self._start.done():
                self._start.set_result(at)
            case Stop():
                self._stopped = True
                if self._load is not None:
                    self._load.stop()

    async def work(self) -> None:
        """Do the job: connect, say so, run when told to, and say what was counted, or why it cannot be done.

        Cancel: the calls that are open are cancelled; what was counted is lost.
        """
        job = await self._job
        try:
            async with AsyncExitStack() as stack:
                clients = [
                    client.using(deadline=job.plan.deadline_s, attempts=job.plan.attempts) for client in await _connected(job, stack)
                ]
                rng = Streams(job.plan.seed).stream(f"load-{job.process}")
                tasks = _tasks(job, clients, rng)
                self._tell(Ready())
                start_at = await self._start
                gc.collect()
                gc.freeze()  # what is here now stays: no collection need look at it again
                self._load = Load(job.plan, job.process, tasks, rng, self._tell)
                if self._stopped:
                    self._load.stop()
                self._tell(Finished(await self._load.run(start_at)))
        except HoldfastError as error:
            self._tell(failure(error))
        except OSError as error:
            self._tell(Failed("ConfigError", f"{error}"))


def _tasks(job: Job, clients: list[Client], rng: Rng) -> list[Task]:
    if job.scenario is not None:
        return scenario_tasks(load_scenario(job.scenario), clients)
    assert job.target is not None
    make = make_arguments(job.target.words, job.target.sample, read_file, rng)
    return [method_task(job.target, make, clients, job.plan.deadline_s)]


def read_file(path: str) -> bytes:
    """Return the contents of a file. Raises: OSError."""
    with open(path, "rb") as file:
        return file.read()


async def _connected(job: Job, stack: AsyncExitStack) -> list[Client]:
    """Open the connections of this process; they are closed with the stack. Raises: Unavailable, ConfigError."""
    count = job.plan.share(job.process).connections
    tls = None if job.tls is None else job.tls.config()
    clients = [
        await stack.enter_async_context(connect(job.address, insecure=job.insecure, tls=tls, seed=job.plan.seed)) for _ in range(count)
    ]
    for first in range(0, count, CONNECTING_AT_ONCE):
        await asyncio.gather(*[client.ready(deadline=job.plan.deadline_s) for client in clients[first : first + CONNECTING_AT_ONCE]])
    return clients


async def _serve_parent(out: int) -> None:
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    worker = Worker(lambda message: _write(out, encode(message)))
    transport, _ = await loop.connect_read_pipe(lambda: Inbox(worker.told, task.cancel), sys.stdin)
    try:
        await worker.work()
    finally:
        transport.close()


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it; the parent reads at once, so waiting for it is short."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def main() -> None:
    """Run the process to its end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    out = os.dup(1)
    os.dup2(2, 1)
    try:
        with asyncio.Runner(loop_factory=loop_factory()[1]) as runner:
            runner.run(_serve_parent(out))
    except (asyncio.CancelledError, BrokenPipeError):
        sys.exit(1)  # the parent is gone: there is nobody to tell


if __name__ == "__main__":
    main()
