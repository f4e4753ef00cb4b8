"""Standard input and output that may block, next to a loop that may not.

A terminal, or a pipe to a pager, can make a read or a write wait for ever; on the loop's thread that would silence our heartbeat, and in
the loop's executor it would keep the process from ending on Ctrl-C. So a blocking call runs on a daemon thread, one at a time, and the
loop awaits it.

Owned here: file descriptors 0 and 1 and the files a person names. What may never happen: more than one chunk in memory per direction, or
a thread that keeps the process alive. Only `os.read` and `os.write` touch a descriptor there: a daemon thread inside a buffered reader
aborts the interpreter at exit.
"""

from __future__ import annotations

import asyncio
import os
import queue
import select
import stat
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import TypeVar

from ..errors import InvalidArgument

T = TypeVar("T")

CHUNK_BYTES = 65_536
PIPE_SAFE_BYTES = 4_096
"""A pipe that polls as writable takes this many bytes without blocking (PIPE_BUF)."""


class BlockingThread:
    """Runs blocking calls one after another on a daemon thread that starts with the first."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None]] | None = None

    async def run(self, call: Callable[[], T]) -> T:
        """Return what `call` returns, or raise what it raises.

        Cancel: the call goes on until it is through; its result is dropped.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def job() -> None:
            try:
                value = call()
            except BaseException as error:
                _post(loop, _fail, result, error)
            else:
                _post(loop, _settle, result, value)

        if self._jobs is None:
            self._jobs = queue.SimpleQueue()
            threading.Thread(target=_work, args=(self._jobs,), name=self._name, daemon=True).start()
        self._jobs.put(job)
        return await result


def _work(jobs: queue.SimpleQueue[Callable[[], None]]) -> None:
    while True:
        jobs.get()()


def _post(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: object) -> None:
    try:
        loop.call_soon_threadsafe(callback, *args)
    except RuntimeError:
        return  # the loop is closed: nobody waits any more


def _settle(result: asyncio.Future[T], value: T) -> None:
    if not result.done():
        result.set_result(value)


def _fail(result: asyncio.Future[T], error: BaseException) -> None:
    if not result.done():
        result.set_exception(error)


def open_source(source: str) -> int:
    """Return a descriptor to read from: 0 for `-`, else the opened file.

    Raises: InvalidArgument when the file cannot be read.
    """
    if source == "-":
        return 0
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidArgument(f"cannot read {source}: {error.strerror}") from error
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise InvalidArgument(f"cannot read {source}: it is a directory")
    return descriptor


def read_whole(source: str, max_bytes: int) -> bytes:
    """Return everything a file or standard input has. Blocks: for use before the loop has anything to do.

    Raises: InvalidArgument when it cannot be read or is larger than `max_bytes`.
    """
    descriptor = open_source(source)
    parts: list[bytes] = []
    size = 0
    try:
        while chunk := os.read(descriptor, CHUNK_BYTES):
            size += len(chunk)
            if size > max_bytes:
                raise InvalidArgument(f"{source} is larger than {max_bytes:,} bytes; send it through a method that takes a stream")
            parts.append(chunk)
    finally:
        if descriptor:
            os.close(descriptor)
    return b"".join(parts)


async def chunks(descriptor: int) -> AsyncGenerator[bytes, None]:
    """Yield what the descriptor has to read, at most 64 KiB at a time, the next chunk when the last one was taken.

    Cancel: a read that waits is abandoned; what it would have brought is lost.
    """
    thread = BlockingThread("holdfast-stdin")
    while chunk := await thread.run(lambda: os.read(descriptor, CHUNK_BYTES)):
        yield chunk


async def lines(descriptor: int, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """Yield the lines of a descriptor without their ends, leaving out empty ones.

    Raises: InvalidArgument for a line longer than `max_bytes`.
    Cancel: a read that waits is abandoned; what it would have brought, and a line begun, are lost.
    """
    rest = bytearray()
    number = 0
    async with aclosing(chunks(descriptor)) as source:
        async for chunk in source:
            rest += chunk
            if b"\n" in chunk:
                *whole, rest = rest.split(b"\n")
                for line in whole:
                    number += 1
                    if line.strip():
                        yield bytes(line)
            if len(rest) > max_bytes:
                raise InvalidArgument(f"line {number + 1} of the input is longer than {max_bytes:,} bytes")
    if rest.strip():
        yield bytes(rest)


class Sink:
    """Where results go: a descriptor that may be a file, a pipe or a terminal."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._never_blocks = stat.S_ISREG(os.fstat(descriptor).st_mode)
        self._thread = BlockingThread("holdfast-stdout")

    async def write(self, data: bytes) -> None:
        """Write all of it before returning; on the loop's thread when that surely does not block.

        Cancel: a write that waits is abandoned; part of `data` may be out.
        """
        if self._never_blocks or (len(data) <= PIPE_SAFE_BYTES and self._ready()):
            self._write(data)
        else:
            await self._thread.run(lambda: self._write(data))

    def _ready(self) -> bool:
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in poller.poll(0))

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._descriptor, rest) :]
