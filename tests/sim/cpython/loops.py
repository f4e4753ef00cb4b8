"""Simulated loops for CPython's tests: what asyncio makes, what `test_asyncio.utils` makes, and the servers it runs in threads.

Owns the one world a test module runs in. Every loop is that of a process on one host. Callbacks cost next to nothing here and timers are
exact, because these tests compare times to seven places.
What may never happen here: a loop that is not simulated.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import signal
import ssl
from collections.abc import Callable, Generator, Iterator
from types import SimpleNamespace
from typing import Any

from holdfast.sim import World, WorldOptions
from holdfast.sim.loop import SimLoop

EXACT = WorldOptions(callback_s=1e-12, wakeup_s=0.0, timer_slack_s=0.0, loopback_s=0.0, executor_s=0.0)
HEAD = b"HTTP/1.0 200 OK\r\nContent-type: text/plain\r\nContent-Length: %d\r\n\r\n"
ANSWER = b"Test message"

Times = Callable[[], Generator[float | None, float, None]]


class Maker:
    """Makes loops of one world, and counts them."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._host = world.host("test")
        self.made = itertools.count()

    def timed(self, times: Times | None = None) -> TestedLoop:
        """What `test_asyncio.utils.TestLoop` gives: its time begins at zero."""
        loop = self.loop(times)
        loop._process.clock = SinceThen(self._world)
        return loop

    def loop(self, times: Times | None = None) -> TestedLoop:
        """What `asyncio.new_event_loop` gives."""
        process = self._host.prepare(f"loop {next(self.made)}")
        process.loop.close()
        loop = TestedLoop(process, times)
        process.attach(loop, loop._selector.keys)
        process.quit = raise_it  # type: ignore[method-assign]
        self._world._engine.current = process  # sockets the test makes before it runs the loop are this process's
        return loop

    @contextlib.contextmanager
    def server(self, *, host: str = "127.0.0.1", port: int = 0, use_ssl: bool = False) -> Iterator[Any]:
        """What `test_asyncio.utils.run_test_server` gives: an HTTP server, here in a process of its own."""
        driver = self._world.driver.processes[0].loop
        listening: asyncio.Future[Any] = driver.create_future()
        process = self._host.start(lambda: serve(host, port, listening, _server_context() if use_ssl else None))
        engine = self._world._engine
        current = engine.current
        address = driver.run_until_complete(listening)
        engine.current = current
        try:
            yield SimpleNamespace(address=address)
        finally:
            process.kill()


def raise_it(asked: BaseException) -> None:
    """A process of the simulation ends when its program asks for it; a test wants to see what was raised."""
    raise asked


class SinceThen:
    """A clock that shows zero when it is made."""

    def __init__(self, world: World) -> None:
        self._world, self._began_at = world, world.now()

    def monotonic(self) -> float:
        return self._world.now() - self._began_at

    def true_time(self, local: float) -> float:
        return local + self._began_at


class TestedLoop(SimLoop):
    """A loop that runs while somebody runs it, and not whenever the world goes on: tests make several and run them by turns.

    It asks the test's generator about every timer, as `TestLoop` does. How far time moves is not for it to say: virtual time knows.
    """

    def __init__(self, process: Any, times: Times | None) -> None:
        super().__init__(process)
        self._times = times() if times is not None else None
        self._asked: list[float] = []
        self._runs = self._missed = False
        self._step, process.step = process.step, self._step_if_it_runs
        if self._times is not None:
            next(self._times)

    def _step_if_it_runs(self, ticket: int) -> None:
        if self._runs:
            self._step(ticket)
        else:
            self._missed = True

    def _run_once(self) -> None:
        before = asyncio._get_running_loop()
        self._runs = True
        if self._missed:
            self._missed = False
            self._process.wake()
        try:
            super()._run_once()
        except BaseException:
            self._missed = True  # what was ready still is
            raise
        finally:
            self._runs = False
            asyncio._set_running_loop(before)
        asked, self._asked = self._asked, []
        if self._times is not None:
            for when in asked:
                self._times.send(when)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        self._asked.append(when)
        return super().call_at(when, callback, *args, context=context)

    def advance_time(self, advance: float) -> None:
        self._engine.now += advance

    def close(self) -> None:
        closed = self.is_closed()
        super().close()
        self._process.alive = False
        if self._times is not None and not closed:
            with contextlib.suppress(StopIteration):
                self._times.send(0)
                raise AssertionError("Time generator is not finished")


async def serve(host: str, port: int, listening: asyncio.Future[Any], context: ssl.SSLContext | None) -> None:
    """The server of `run_test_server`, as far as its clients look."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            body = ANSWER
            if head.split()[1] == b"/loop":
                size = int(head.lower().partition(b"content-length:")[2].split()[0])
                body = await reader.readexactly(size)
            writer.write(HEAD % len(body) + body)
            await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, host, port, ssl=context) as server:
        listening.set_result(server.sockets[0].getsockname())
        await server.serve_forever()


def test_utils() -> Any:
    """`test.test_asyncio.utils`, which no type checker knows."""
    return importlib.import_module("test.test_asyncio.utils")


def _server_context() -> ssl.SSLContext:
    context: ssl.SSLContext = test_utils().simple_server_sslcontext()
    return context


@contextlib.contextmanager
def simulated(seed: int) -> Iterator[Maker]:
    """Inside, every loop that is made is simulated."""
    utils: Any = test_utils()
    # asyncio.Runner would put a handler in place of this one, and the simulation has no signals of the real system.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    world = World(seed, options=EXACT)
    maker = Maker(world)
    its_asyncio: Any = asyncio
    its_asyncio.DefaultEventLoopPolicy._loop_factory = staticmethod(
        maker.loop
    )  # in the class: tests put a fresh policy in the old one's place
    its_asyncio.SelectorEventLoop = lambda selector=None: maker.loop()
    utils.TestLoop = maker.timed
    utils.run_test_server = maker.server
    with world.running():
        yield maker
