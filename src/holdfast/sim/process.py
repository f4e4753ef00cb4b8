"""A process of a host: its loop, its main function, what it ends with.

Owns: the life of a process, which is that of `asyncio.run(main())`: when main returns, what is left is cancelled and waited for, then its
descriptors are closed and it is gone. And its other ends: killed from outside, out of memory, a signal it does not handle, the power.

What may never happen here: a `finally` of a process that was killed, run while the world goes on.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import traceback
from collections.abc import Awaitable, Callable, Generator
from random import Random
from typing import Any

from .cpu import Cpu
from .engine import Engine
from .escapes import Killed
from .kernel import Kernel
from .loop import SimLoop, SimTask
from .names import Names

Main = Callable[[], Awaitable[object]]


class Process(Cpu):
    """One process. `await process` waits for its end and gives what main returned; from any other process.

    Attributes:
        name, pid: of the process. host: the name of its host.
        descriptors: how many it may have open.
        failure: what main raised; Killed for one that was killed.
        looked_at: somebody waited for it, or asked; a failure nobody looked at fails the world.
    """

    def __init__(self, engine: Engine, kernel: Kernel, names: Names, name: str, pid: int, chance: Random) -> None:
        super().__init__(engine, kernel.name, chance)
        self.kernel = kernel
        self.names = names
        self.name = name
        self.pid = pid
        self.descriptors = engine.options.descriptors
        self.wall_offset_s = 0.0
        self.looked_at = False
        self.began_at = engine.time()
        self.globals: dict[str, Any] = {}
        self.failure: BaseException | None = None
        self.unhandled: Callable[[str, str], None] = lambda host, text: None
        self.ended: Callable[[Process], None] = lambda process: None
        self._result: Any = None
        self._waiters: list[asyncio.Future[None]] = []
        self._remains: list[Any] = []
        loop = SimLoop(self)
        loop.set_exception_handler(self._unhandled)
        self.attach(loop, loop._selector.keys)

    def begin(self, main: Main) -> None:
        """Start it."""
        self.loop._thread_id = threading.get_ident()
        self.engine.record("start", self.host, (self.pid, self.name))
        task = SimTask(self.life(main), loop=self.loop, name=self.name, context=contextvars.Context())
        task._label = self.name
        task.add_done_callback(self._main_done)
        self._remains.append(task)

    async def life(self, main: Main) -> Any:
        """What `asyncio.run(main())` does. Cancel: main is cancelled, and what it left behind as well."""
        try:
            return await main()
        finally:
            await self._clear_away()

    async def _clear_away(self) -> None:
        loop, own = self.loop, asyncio.current_task()
        left = sorted((each for each in asyncio.all_tasks(loop) if each is not own), key=hash)
        for task in left:
            task.cancel()
        if left:
            await asyncio.gather(*left, return_exceptions=True)
        for task in left:
            if not task.cancelled() and task.exception() is not None:
                loop.call_exception_handler(
                    {"message": "unhandled exception while the process ended", "exception": task.exception(), "task": task}
                )
        await loop.shutdown_asyncgens()

    def __await__(self) -> Generator[Any, None, Any]:
        self.looked_at = True
        if self.alive:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            yield from waiter.__await__()
        if self.failure is not None:
            raise self.failure
        return self._result

    # -------------------------------------------------------------------------------------------------------------------- ends

    def _main_done(self, task: asyncio.Task[Any]) -> None:
        if task.cancelled():
            self.failure = asyncio.CancelledError()
        else:
            self.failure = task.exception()
            self._result = None if self.failure is not None else task.result()
        self._end("exit", None if self.failure is None else type(self.failure).__name__)

    def quit(self, asked: SystemExit) -> None:
        """The program called `sys.exit`."""
        self.failure = asked if asked.code else None
        self._end("exit", str(asked.code or 0))

    def kill(self, why: str = "kill") -> None:
        """End it now: no `finally` runs, and the kernel closes what it had open."""
        if self.alive:
            self._keep_remains()
            self.failure = Killed(f"process {self.name!r} of host {self.host!r} was killed ({why}) at {self.engine.time():.6f} s")
            self.looked_at = True
            self._end(why, None)

    def vanish(self) -> None:
        """The power is gone: nobody closes anything."""
        if self.alive:
            self._keep_remains()
            self.files.clear()
            self.failure = Killed(f"host {self.host!r} lost its power at {self.engine.time():.6f} s")
            self.looked_at = True
            self._end("power loss", None)

    def _end(self, kind: str, detail: str | None) -> None:
        self.alive = False
        self.engine.record(kind, self.host, (self.pid, detail))
        for fd in sorted(self.files):
            self.close_descriptor(fd)
        self.loop._thread_id = None
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
        self.ended(self)

    def _keep_remains(self) -> None:
        """Hold on to what was running: a task that is collected would run its `finally`, and this process has no say any more."""
        self._remains += sorted(asyncio.all_tasks(self.loop), key=hash)

    def signal(self, number: int) -> None:
        """Send it a signal: its handler is called from its loop; without one it is killed."""
        if not self.alive:
            return
        handler = self.signals.get(int(number))
        self.engine.record("signal", self.host, (self.pid, int(number), handler is not None))
        if handler is None or int(number) == 9:
            self.kill("kill")
        else:
            self.loop.call_soon(handler[0], *handler[1])

    def memory_bytes(self) -> int:
        """What its transports hold that has not gone to the kernel."""
        return sum(each.get_write_buffer_size() for each in self.loop._transports.values())

    # ------------------------------------------------------------------------------------------------------- for sockets, patches

    def close_descriptor(self, fd: int) -> None:
        """The kernel's close(2)."""
        file = self.files.get(fd)
        self._hot.pop(fd, None)
        if file is not None:
            file.close()

    def resolve(self, host: str, family: int) -> str:
        """The first address of a name. Raises: socket.gaierror."""
        return str(self.names.look_up(host, 0, family, 0, 0, 0)[0][4][0])

    def wall(self) -> float:
        """Its time of day."""
        return float(self.engine.options.epoch_s + self.wall_offset_s + self.loop.time())

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if self.engine.over or not self.alive:
            return
        error = context.get("exception")
        text = str(context.get("message", "unhandled"))
        self.engine.record("unhandled", self.host, type(error).__name__ if error is not None else None)
        if error is not None:
            text += "\n" + "".join(traceback.format_exception(error))
        self.unhandled(self.host, text)

    # ------------------------------------------------------------------------------------------------------- after the world's end

    def dismantle(self) -> None:
        """Close what is left of it, when no world is there any more to notice."""
        tasks = {id(each): each for each in [*self._remains, *asyncio.all_tasks(self.loop)] if isinstance(each, asyncio.Task)}
        for task in sorted(tasks.values(), key=hash):
            if not task.done():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                _close(asyncio.Task.get_coro(task))
                _close(task.get_coro())  # a HandlerTask has the handler's own inside, which may have refused to end with the one around it
        for transport in list(self.loop._transports.values()):
            wrapped = getattr(getattr(transport, "_protocol", None), "_app_transport", None)
            if wrapped is not None:
                wrapped._closed = True
            transport._closing, transport._sock = True, None
        for fd in sorted(self.files):
            self.files.pop(fd)
        self._remains.clear()
        self.signals.clear()
        self.loop._thread_id = None
        self.loop.close()

    def part(self) -> None:
        """Let go of the loop, and of everything that refers back to here."""
        self.loop = None
        self._keys = {}
        self.globals.clear()
        self.ended, self.unhandled = _nobody, _nobody


def _nobody(*_: Any) -> None:
    """Who is told of a process when the world is over."""


def _close(coroutine: Any) -> None:
    """Close a coroutine; one that awaits in its `finally` says that it ignores this, and is closed again."""
    for _ in range(20):
        try:
            coroutine.close()
            return
        except BaseException:  # noqa: S112 # nobody is left to tell: this code has been dead since before the end
            continue
