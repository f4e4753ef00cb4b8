"""A server and a client with a fault between them, and the question every fault ends with: is anything left?

Nothing here sleeps. A state that nobody announces is waited for by turns of the loop (`until`), everything else by futures.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import holdfast
from holdfast.control.wheel import Wheel
from holdfast.facts import Emit, Fact
from holdfast.net.address import Address
from holdfast.net.link import Link, Listening, ListenOptions, Network, Receiver, WhenFull
from holdfast.net.memory import MemoryNetwork
from holdfast.net.network import KernelNetwork
from holdfast.rpc.caller import CallerSession
from holdfast.rpc.desk import Desk
from holdfast.rpc.responder import ResponderSession
from holdfast.rpc.session import Session
from holdfast.wire import Settings, frames
from holdfast.wire.settings import encode_settings

PATIENCE_S = 20.0
HELLO = frames.PREFACE + frames.pack_frame(frames.HELLO, 0, 0, encode_settings(Settings(instance=b"raw-peer-12345678")))


class Rig:
    """One server, one client of it, and what both keep inside."""

    def __init__(self, server: holdfast.Server, client: holdfast.Client, facts: list[Fact]) -> None:
        self.server = server
        self.client = client
        self.facts = facts
        self.url = server.addresses[0]

    @property
    def desk(self) -> Desk:
        desk = self.server._desk
        assert desk is not None
        return desk

    @property
    def theirs(self) -> list[ResponderSession]:
        return list(self.server._sessions)

    @property
    def ours(self) -> CallerSession:
        dialer = self.client._core.dialer
        session = dialer.session or next(reversed(dialer.sessions), None)  # or the one that is going
        assert session is not None
        return session

    def seen(self, kind: type[Fact]) -> list[Any]:
        """The facts of that kind, from both sides."""
        return [fact for fact in self.facts if isinstance(fact, kind)]

    def leftovers(self) -> list[str]:
        """What a call would leave behind if it left anything, on either side; empty when nothing is."""
        found = [f"desk.running == {self.desk.running}"] if self.desk.running else []
        found += [f"desk.threads_busy == {self.desk.threads_busy}"] if self.desk.threads_busy else []
        sessions: list[Session] = [s for s in (*self.client._core.dialer.sessions, *self.theirs) if not s.closed]
        for session in sessions:
            found += [f"{session.side}: {what}" for what in held_by(session)]
        tasks = len(self.client._core.scope) + len(self.desk.scope)
        return found + ([f"{tasks} tasks"] if tasks else [])

    async def clean(self) -> None:
        """Return when nothing of any call is left on either side."""
        await until(lambda: not self.leftovers(), self.leftovers)


def held_by(session: Session) -> list[str]:
    """What open calls hold of a session: records, credit, memory, turns."""
    conn, inbox, found = session.conn, session.conn.inbox, []
    if conn.calls:
        found.append(f"calls {sorted(conn.calls)}")
    if inbox.budget.used_bytes:
        found.append(f"{inbox.budget.used_bytes} bytes of the budget")
    if conn.state == "OPEN" and inbox.credit + inbox.owed != inbox.window:
        found.append(f"{inbox.window - inbox.credit - inbox.owed} bytes of the window")
    if conn.busy or conn.outbox.answers:
        found.append("messages in the queue")
    if getattr(session, "_slots", None):
        found.append("waiters for a slot")
    return found


async def until(state: Callable[[], object], say: Callable[[], object] = lambda: "") -> None:
    """Let the loop turn until `state()` is true."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not state():  # noqa: ASYNC110 # the state is another task's or the kernel's; nobody announces it
                await asyncio.sleep(0)
    except TimeoutError:
        raise AssertionError(f"it never came true; at the end: {say()}") from None


def kernel(**limits: Any) -> KernelNetwork:
    """The kernel's network with other limits than a roof gives it."""
    loop = asyncio.get_running_loop()
    return KernelNetwork(loop.create_task, Wheel(loop.time, loop.call_at), **limits)


@asynccontextmanager
async def rig(
    service: holdfast.Service | Sequence[holdfast.Service],
    *,
    bind: str = "tcp://127.0.0.1:0",
    attempts: int = 1,
    network: Network | None = None,
    server_network: Network | None = None,
    client_config: holdfast.ClientConfig | None = None,
    ready: bool = True,
    **server: Any,
) -> AsyncIterator[Rig]:
    """Serve and connect; the client is connected already unless `ready` is False. Memory gets a network of its own."""
    facts: list[Fact] = []
    if bind.startswith("memory") and network is None:
        network = MemoryNetwork()
    clock = server.pop("clock", None)
    config = server.pop("config", None) or holdfast.ServerConfig(**{"drain_s": 2.0, "cancel_grace_s": 2.0, **server})
    serving = holdfast.serve(service, bind=bind, config=config, emit=facts.append, network=server_network or network, clock=clock)
    async with serving:
        made = holdfast.connect(serving.addresses[0], attempts=attempts, emit=facts.append, network=network, config=client_config)
        async with made:
            if ready:
                await made.ready(deadline=PATIENCE_S)
            yield Rig(serving, made, facts)


# ------------------------------------------------------------------------------------------------------------ cutting the wire


class Cut:
    """After how many bytes a network cuts its first connection, and in which direction.

    Attributes:
        to_server, to_client: bytes that arrive in that direction before the cut; None for never.
        politely: the end of the stream instead of a reset.
        counted: bytes that arrived, by direction.
        done: whether the cut was made; from then on the network is whole.
    """

    def __init__(self, *, to_server: int | None = None, to_client: int | None = None, politely: bool = False) -> None:
        self.limits = {"to_server": to_server, "to_client": to_client}
        self.politely = politely
        self.counted = {"to_server": 0, "to_client": 0}
        self.done = False


class CuttingReceiver:
    """Hands on what comes until it is time to cut."""

    def __init__(self, inner: Receiver, cut: Cut, direction: str) -> None:
        self.inner = inner
        self.cut = cut
        self.direction = direction
        self.rest = 0
        self.link: Link | None = None

    def link_made(self, link: Link) -> None:
        self.link = link
        self.inner.link_made(link)
        if self.cut.limits[self.direction] == 0 and not self.cut.done:
            self._cut()

    def bytes_received(self, data: memoryview | bytes) -> int:
        cut, limit = self.cut, self.cut.limits[self.direction]
        new = len(data) - self.rest
        if limit is None or cut.done:
            cut.counted[self.direction] += new
            used = self.inner.bytes_received(data)
            self.rest = len(data) - used
            return used
        take = max(0, min(new, limit - cut.counted[self.direction]))
        cut.counted[self.direction] += take
        used = self.inner.bytes_received(data[: self.rest + take])
        if cut.counted[self.direction] >= limit:
            self._cut()
            return len(data)
        self.rest = len(data) - used
        return used

    def _cut(self) -> None:
        self.cut.done = True
        assert self.link is not None
        if self.cut.politely:
            self.link.close()
        else:
            self.link.abort()

    def eof_received(self) -> None:
        self.inner.eof_received()

    def link_lost(self, error: Exception | None) -> None:
        self.inner.link_lost(error)

    def pause_writing(self) -> None:
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        self.inner.resume_writing()


class CuttingNetwork:
    """Any network, with a cut in it."""

    def __init__(self, inner: Network, cut: Cut) -> None:
        self.inner = inner
        self.cut = cut

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        return await self.inner.connect(address, lambda: CuttingReceiver(make_receiver(), self.cut, "to_client"), timeout_s=timeout_s)

    async def listen(
        self,
        address: Address,
        make_receiver: Callable[[], Receiver],
        options: ListenOptions,
        emit: Emit,
        when_full: WhenFull | None = None,
    ) -> Listening:
        return await self.inner.listen(address, lambda: CuttingReceiver(make_receiver(), self.cut, "to_server"), options, emit, when_full)


# ----------------------------------------------------------------------------------------------------------- cancelling at k


class Steps:
    """Counts the suspensions of a coroutine, and cancels its task at one of them.

    Args:
        at: which suspension, from 1; 0 for none.
        woken: cancel not when it begins to wait, but at the moment what it waits for has happened and it has not run on yet.
    """

    def __init__(self, at: int, *, woken: bool = False) -> None:
        self.at = at
        self.woken = woken
        self.count = 0
        self.cancelled = False

    @types.coroutine
    def drive(self, coro: Coroutine[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Await this instead of the coroutine, as the whole of a task."""
        error: BaseException | None = None
        while True:
            try:
                waits_for = coro.send(None) if error is None else coro.throw(error)
            except StopIteration as stop:
                return stop.value
            error = None
            self.count += 1
            if self.count == self.at:
                self._cancel(waits_for)
            try:
                yield waits_for
            except BaseException as thrown:
                error = thrown

    def _cancel(self, waits_for: Any) -> None:
        task = asyncio.current_task()
        assert task is not None

        def cancel(_: object = None) -> None:
            self.cancelled = True
            task.cancel()

        if self.woken and waits_for is not None:
            waits_for.add_done_callback(cancel)  # in front of the task's own wake-up
        else:
            cancel()


async def cancel_everywhere(make: Callable[[], Awaitable[Any]], after: Callable[[], Awaitable[None]]) -> int:
    """Run what `make` gives again and again, cancelled at its 1st, 2nd, … suspension, in both ways, until it completes; `after` each.

    Returns: how many suspensions it had.
    """
    suspensions = 0
    for woken in (False, True):
        at = 0
        while True:
            at += 1
            steps = Steps(at, woken=woken)

            async def run(steps: Steps = steps) -> Any:
                async def inner() -> Any:
                    return await make()

                return await steps.drive(inner())

            task = asyncio.get_running_loop().create_task(run())
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.wait([task])
            if steps.cancelled:
                assert task.cancelled(), f"cancelled at suspension {at} (woken={woken}) it went on: {task!r}"
            else:
                task.result()
            await after()
            if not steps.cancelled:
                suspensions = max(suspensions, steps.count)
                break
            assert at < 1000, "it never completes"
    return suspensions


# ------------------------------------------------------------------------------------------------------------------ raw peers


class RawPeer:
    """A peer that can say anything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def frame(self) -> tuple[int, int, int, bytes]:
        """Read one frame: kind, flags, call id, payload."""
        async with asyncio.timeout(PATIENCE_S):
            head = await self.reader.readexactly(frames.HEADER_BYTES)
            length, kind, flags, call_id = frames.HEADER.unpack(head)
            return kind, flags, call_id, await self.reader.readexactly(length)

    async def frame_of(self, kind: int) -> tuple[int, int, bytes]:
        """Read on to the next frame of that kind: flags, call id, payload."""
        while True:
            found, flags, call_id, payload = await self.frame()
            if found == kind:
                return flags, call_id, payload

    async def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        async with asyncio.timeout(PATIENCE_S):
            return await self.reader.read()

    async def hello(self) -> None:
        """Shake hands."""
        self.send(HELLO)
        async with asyncio.timeout(PATIENCE_S):
            assert await self.reader.readexactly(len(frames.PREFACE)) == frames.PREFACE
        await self.frame_of(frames.WELCOME)


@asynccontextmanager
async def raw_peer(url: str, *, hello: bool = False) -> AsyncIterator[RawPeer]:
    """Connect a raw peer to `tcp://host:port`."""
    host, _, port = url.removeprefix("tcp://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=64 * 1024)
    peer = RawPeer(reader, writer)
    try:
        if hello:
            await peer.hello()
        yield peer
    finally:
        writer.close()
        try:
            await writer.wait_closed()
        except OSError:
            pass  # the other side cut it


def call_frame(
    method: str, body: bytes = b"\x80", *, call_id: int = 1, deadline_ms: int = 0, raw: bool = False, metadata: bytes | None = None
) -> bytes:
    """A CALL in one frame."""
    extra = frames.pack_extra(None, metadata)
    flags = (frames.RAW if raw else 0) | (extra[0] if extra else 0)
    payload = frames.CALL_HEAD.pack(deadline_ms, call_id, 0, len(method)) + method.encode() + (extra[1] if extra else b"") + body
    return frames.pack_frame(frames.CALL, flags, call_id, payload)
