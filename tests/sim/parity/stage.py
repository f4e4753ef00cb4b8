"""What a parity program stands on: a log, an address, and words between its two halves.

Owns the list of programs and what they share. A program is ordinary asyncio code that writes down what it observes; it never learns
whether its loop is real. Most have two halves, `server` and `client`, which run as two tasks of one process or on two hosts.
What may never happen here: a fact that depends on time, on how TCP cut the bytes, or on which half ran first.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ssl
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass
from socket import SO_LINGER, SO_RCVBUF, SO_SNDBUF, SOL_SOCKET
from typing import Any, Protocol

Log = dict[str, list[Any]]
"""What each half observed, in its own order. Nothing is said about the order between halves."""

FAMILIES = ("streams", "protocols", "udp", "tls", "cancel", "timeouts", "taskgroups", "sync", "closing", "names")


class Papers(Protocol):
    """TLS contexts that both halves trust."""

    def server(self, *, ask_client: bool = False) -> ssl.SSLContext: ...
    def client(self, *, trusting: bool = True, certificate: bool = False) -> ssl.SSLContext: ...


class Ground(Protocol):
    """What differs between a real loop and a simulated one, as far as a program must be able to wait for it."""

    async def arrived(self, transport: asyncio.BaseTransport, count: int) -> None: ...
    async def quiet(self) -> None: ...


class Board:
    """Words between two halves, outside the network: each is said once, and heard by whoever waits for it, on whichever loop."""

    def __init__(self) -> None:
        self._words: dict[str, Any] = {}
        self._waiters: dict[str, list[asyncio.Future[None]]] = {}

    def tell(self, name: str, value: Any) -> None:
        assert name not in self._words, f"{name!r} is told twice"
        self._words[name] = value
        for waiter in self._waiters.pop(name, []):
            if not waiter.done():
                waiter.set_result(None)

    async def hear(self, name: str) -> Any:
        if name not in self._words:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.setdefault(name, []).append(waiter)
            await waiter
        return self._words[name]


class Stage:
    """What one half is given.

    `host` is where the server half is dialled, `bind` where it listens. A word may overtake the packets sent before it: to know that
    bytes have come, read them, or ask `arrived`.
    """

    def __init__(self, board: Board, ground: Ground, papers: Papers, *, host: str, bind: str) -> None:
        self._board, self._ground = board, ground
        self.papers, self.host, self.bind = papers, host, bind
        self.facts: list[Any] = []

    def log(self, *facts: Any) -> None:
        self.facts.append(facts[0] if len(facts) == 1 else facts)

    def tell(self, name: str, value: Any = None) -> None:
        self._board.tell(name, value)

    async def hear(self, name: str) -> Any:
        return await self._board.hear(name)

    async def arrived(self, transport: asyncio.BaseTransport, count: int) -> None:
        """Until `count` bytes wait in the kernel, unread. The transport must not be reading."""
        await self._ground.arrived(transport, count)

    async def quiet(self) -> None:
        """Until what is on its way has come: for the few facts that say that something does not happen."""
        await self._ground.quiet()


# ----------------------------------------------------------------------------------------------------------- the programs

Half = Callable[[Stage], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Program:
    """One program: its family, its name, and its halves by name."""

    family: str
    name: str
    halves: dict[str, Half]

    @property
    def two_hosts(self) -> bool:
        """Whether it has halves that can stand on different hosts."""
        return len(self.halves) == 2

    def __str__(self) -> str:
        return f"{self.family}/{self.name}"


PROGRAMS: dict[str, Program] = {}


def _add(program: Program) -> None:
    assert program.family in FAMILIES, program
    assert str(program) not in PROGRAMS, f"{program} is there twice"
    PROGRAMS[str(program)] = program


def alone(family: str) -> Callable[[Half], Half]:
    """A program of one half."""

    def add(half: Half) -> Half:
        _add(Program(family, half.__name__, {"alone": half}))
        return half

    return add


def pair(family: str) -> Callable[[Callable[[], tuple[Half, Half]]], None]:
    """A program of two halves: the function returns `server, client`."""

    def add(halves: Callable[[], tuple[Half, Half]]) -> None:
        server, client = halves()
        _add(Program(family, halves.__name__, {"server": server, "client": client}))

    return add


# ------------------------------------------------------------------------------------------------------- words for outcomes


def kind(error: BaseException | None) -> Any:
    """An exception as a fact: its type, and what of it is promised."""
    if error is None:
        return None
    if isinstance(error, BaseExceptionGroup):
        return type(error).__name__, [kind(each) for each in error.exceptions]
    if isinstance(error, asyncio.IncompleteReadError):
        return "IncompleteReadError", bytes(error.partial), error.expected
    if isinstance(error, asyncio.LimitOverrunError):
        return "LimitOverrunError", str(error), error.consumed
    if isinstance(error, ssl.SSLCertVerificationError):
        return "SSLCertVerificationError", error.verify_code
    if isinstance(error, ssl.SSLError):
        return type(error).__name__, error.reason
    if isinstance(error, OSError) and error.errno is not None:
        return type(error).__name__, errno.errorcode.get(error.errno, error.errno)
    return type(error).__name__


def name_of(fact: Any) -> str:
    """The type's name of an error that `kind` or `outcome` gave."""
    return fact if isinstance(fact, str) else str(fact[0])


def said(context: dict[str, Any]) -> tuple[Any, ...]:
    """What the loop's exception handler was told, without the name of the callback: that is the loop's own affair."""
    message = str(context["message"])
    return message[: len("Exception in callback")] if message.startswith("Exception in callback") else message, kind(
        context.get("exception")
    )


async def outcome(awaitable: Awaitable[Any]) -> Any:
    """The value, or the error as a fact. A cancel of the caller's own is a fact like any other."""
    try:
        return await awaitable
    except (Exception, asyncio.CancelledError) as error:
        return kind(error)


@contextlib.contextmanager
def errors_of_the_loop(at: Stage) -> Generator[None]:
    """Write down what reaches the loop's exception handler, instead of logging it."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _loop, context: at.log("loop error", *said(context)))
    try:
        yield
    finally:
        loop.set_exception_handler(before)


# ------------------------------------------------------------------------------------------------------------------ ends


class Recorder(asyncio.Protocol):
    """A protocol that writes down what it is told. Bytes that come one after the other are one fact, however they were cut."""

    def __init__(self, *, keep_open: bool | None = None) -> None:
        loop = asyncio.get_running_loop()
        self.facts: list[Any] = []
        self.data = bytearray()
        self.made: asyncio.Future[asyncio.Transport] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.lost: asyncio.Future[Any] = loop.create_future()
        self._keep_open = keep_open
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.facts.append("made")
        if not self.made.done():
            self.made.set_result(transport)

    def data_received(self, data: bytes) -> None:
        if self.facts and isinstance(self.facts[-1], bytes):
            self.facts[-1] += data
        else:
            self.facts.append(bytes(data))
        self.data += data
        for count, waiter in self._waiters:
            if len(self.data) >= count and not waiter.done():
                waiter.set_result(None)

    def eof_received(self) -> bool | None:
        self.facts.append("eof")
        if not self.ended.done():
            self.ended.set_result(None)
        return self._keep_open

    def connection_lost(self, error: Exception | None) -> None:
        self.facts.append(("lost", kind(error)))
        if not self.lost.done():
            self.lost.set_result(kind(error))

    def pause_writing(self) -> None:
        self.facts.append("pause")

    def resume_writing(self) -> None:
        self.facts.append("resume")

    async def received(self, count: int) -> bytes:
        """Until `count` bytes have come in all."""
        if len(self.data) < count:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append((count, waiter))
            await waiter
        return bytes(self.data)


def one_after_another(ends: Sequence[asyncio.BaseProtocol]) -> Callable[[], Any]:
    """A factory of these, in this order. They exist before the connections do: a half can wait for one that is still on its way."""
    return iter(ends).__next__


@contextlib.asynccontextmanager
async def listening(at: Stage, factory: Callable[[], asyncio.BaseProtocol], **how: Any) -> AsyncGenerator[asyncio.Server]:
    """A server whose port the other half hears of. Its connections must have ended when this is left."""
    server = await asyncio.get_running_loop().create_server(factory, at.bind, 0, **how)
    at.tell("port", server.sockets[0].getsockname()[1])
    try:
        yield server
        server.close()
        await server.wait_closed()
    finally:
        server.close()  # after an error there may be connections nobody ends, so it does not wait


async def dial(at: Stage, factory: Callable[[], Any], **how: Any) -> Any:
    """A connection to the other half; the protocol."""
    port = await at.hear("port")
    return (await asyncio.get_running_loop().create_connection(factory, at.host, port, **how))[1]


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@contextlib.asynccontextmanager
async def accepted(at: Stage, **how: Any) -> AsyncGenerator[Streams]:
    """A stream server that takes one connection; both are closed when this is left."""
    first: asyncio.Future[Streams] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(lambda reader, writer: first.set_result((reader, writer)), at.bind, 0, **how)
    at.tell("port", server.sockets[0].getsockname()[1])
    try:
        reader, writer = await first
        async with closed(writer):
            yield reader, writer
        server.close()
        await server.wait_closed()
    finally:
        server.close()


@contextlib.asynccontextmanager
async def dialled(at: Stage, **how: Any) -> AsyncGenerator[Streams]:
    """A stream connection to the other half, closed when this is left."""
    reader, writer = await asyncio.open_connection(at.host, await at.hear("port"), **how)
    async with closed(writer):
        yield reader, writer


@contextlib.asynccontextmanager
async def closed(writer: asyncio.StreamWriter) -> AsyncGenerator[None]:
    """Close the writer at the end, whatever came of the connection."""
    try:
        yield
    finally:
        writer.close()
        await outcome(writer.wait_closed())


def narrow(transport: asyncio.BaseTransport) -> None:
    """Small kernel buffers: a megabyte that nobody reads must not fit."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(SOL_SOCKET, SO_SNDBUF, 32 * 1024)
    sock.setsockopt(SOL_SOCKET, SO_RCVBUF, 32 * 1024)


def reset(transport: asyncio.BaseTransport) -> None:
    """Go away with a RST: linger of zero seconds, then abort."""
    assert isinstance(transport, asyncio.Transport)
    transport.get_extra_info("socket").setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
