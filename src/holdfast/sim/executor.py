"""Executors without threads: jobs that run at a drawn time, one after another, and are done when a thread would have been.

Owns: a pool of as many workers as the real one has, the queue of jobs, and when each begins and ends. A job runs in one go in the thread of
the world; what it sleeps there (`time.sleep`) is how long it took, so jobs overlap in virtual time although they do not in real time.

What may never happen here: a job that waits for another one; nothing would ever run that other one (`patches.py` raises there).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextvars import Context
from typing import Any

from .cpu import Cpu

Job = tuple[asyncio.Future[Any], Callable[..., Any], tuple[Any, ...]]


class Pool:
    """The threads of one executor."""

    def __init__(self, process: Cpu, workers: int) -> None:
        self._process = process
        self._workers = workers
        self._busy = 0
        self._waiting: deque[Job] = deque()
        self._idlers: list[asyncio.Future[None]] = []

    def submit(self, call: Callable[..., Any], args: tuple[Any, ...]) -> asyncio.Future[Any]:
        """Queue a job; the future has its result."""
        future: asyncio.Future[Any] = self._process.loop.create_future()
        self._waiting.append((future, call, args))
        self._begin()
        return future

    async def idle(self) -> None:
        """Wait until no job is left. Cancel: loses nothing."""
        if self._busy or self._waiting:
            waiter: asyncio.Future[None] = self._process.loop.create_future()
            self._idlers.append(waiter)
            await waiter

    def _begin(self) -> None:
        engine = self._process.engine
        while self._waiting and self._busy < self._workers:
            job = self._waiting.popleft()
            if not job[0].cancelled():
                self._busy += 1
                delay_s = self._process.chance.random() * engine.options.executor_s
                engine.at(engine.time() + delay_s, self._run, *job)
        if not self._busy and not self._waiting:
            for waiter in self._idlers:
                if not waiter.done():
                    waiter.set_result(None)
            self._idlers.clear()

    def _run(self, future: asyncio.Future[Any], call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        process = self._process
        if not process.alive:
            return
        result, error, took_s = process.run_as_thread(lambda: Context().run(call, *args))
        process.engine.at(process.engine.now + took_s, self._done, future, result, error)

    def _done(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        if self._process.alive:
            self._process.loop.call_soon(self._tell, future, result, error)

    def _tell(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._busy -= 1
        if not future.done():
            if error is None:
                future.set_result(result)
            elif isinstance(error, StopIteration):
                future.set_exception(RuntimeError(f"a job of an executor raised {error!r}"))
            else:
                future.set_exception(error)
        self._begin()
