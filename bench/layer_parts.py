"""The layers of a small unary call, driven one at a time: the objects that a client and a server use, taken apart by hand.

A client and a server are joined in memory by `holdfast.testing.client` and shake hands; then their links are taken away, and what one side
writes is handed to the other by these functions, with a clock around each step. A layer that cannot run without those below it is run with
them and theirs are subtracted, within one round. What may never happen here: bytes made up by hand (each reads what the other one wrote),
or a step that is timed twice.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
import types
from collections.abc import Callable, Generator
from contextvars import copy_context
from typing import Any

import msgspec

from bench.layer_features import IN_FLIGHT, Bench, Echo, compared, message_of, service
from holdfast import testing
from holdfast.context import CURRENT
from holdfast.net.address import parse_addresses
from holdfast.net.link import ListenOptions
from holdfast.net.memory import MemoryNetwork
from holdfast.rpc.outcall import Outcall
from holdfast.rpc.session import EARLY_CHUNKS
from holdfast.tasks import new_handler_task

CALLS_A_WRITE = EARLY_CHUNKS // 3
"""A CALL is three chunks, so a session with many of them writes so many at once."""
DEADLINE_MS = 10_000
WARM_UP_TURNS = 4

clock = time.process_time
Sums = dict[str, float]


class Kept:
    """Stands where a link was, and keeps what is written."""

    peer = "memory://kept"
    certificate = None

    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> bool:
        """Keep it."""
        self._written.append(data)
        return True

    def take(self) -> list[memoryview]:
        """Return what was written, as the other side's `bytes_received` takes it."""
        written, self._written = self._written, []
        return [memoryview(data) for data in written]


class Rig:
    """Both sides of one connection after the handshake, and one turn's worth of calls: IN_FLIGHT of them."""

    def __init__(self, client: Any, echo: Any) -> None:
        self.loop = asyncio.get_running_loop()
        self.echo = echo
        self.core = client._core
        self.bound = echo.args[1]
        self.ours = self.core.dialer.session
        self.links = self.ours.link, self.ours.link.other
        self.theirs = self.links[1]._receiver
        self.route = self.theirs._desk.find(self.bound.wire_name)
        self.messages = [message_of(number) for number in range(IN_FLIGHT)]
        self.bodies = [self.bound.codec.encode_args((message,), {}) for message in self.messages]
        self.replies = [self.route.codec.result_to_bytes(message) for message in self.messages]
        self.ours.link, self.theirs.link = self.our_end, self.their_end = Kept(), Kept()

    def put_back(self) -> None:
        """Give both sides their links again, so that they can say goodbye."""
        self.ours.link, self.theirs.link = self.links

    def outcalls(self, *, waited_for: bool) -> list[Outcall]:
        """Return the records of one turn's calls, as the merged way makes them."""
        expires_at = self.core.now() + DEADLINE_MS / 1000
        first = self.core.number + 1
        self.core.number += IN_FLIGHT
        return [
            Outcall(
                0,
                None,
                self.core.create_future() if waited_for else None,
                expires_at,
                None,
                math.inf,
                self.bound.info.name,
                number,
            )
            for number in range(first, first + IN_FLIGHT)
        ]

    async def turns(self, step: Callable[[], None], count: int) -> None:
        """Take a step `count` times, each in a callback of the loop as bytes come in, and with what it left to the loop done after it."""
        for _ in range(count):
            done = self.loop.create_future()
            self.loop.call_soon(self._step, step, done)
            await done
            await asyncio.sleep(0)

    def _step(self, step: Callable[[], None], done: asyncio.Future[None]) -> None:
        try:
            step()
        except Exception as error:
            done.set_exception(error)
        else:
            done.set_result(None)


async def layers(calls: int) -> Sums:
    """Drive every part for about `calls` calls; return µs per call by key, the parts that need others still with these in them."""
    turns = max(1, calls // IN_FLIGHT)
    async with testing.client(service([])) as client:
        echo: Any = client.bind(Bench).echo
        compared(await echo(message_of(0)), message_of(0))  # what happens once has happened
        rig = Rig(client, echo)
        sums: Sums = {}
        try:
            for drive in (codec, wire, session, unary, handler):
                await _timed(rig, drive, turns, sums)
        finally:
            rig.put_back()
    await _link(turns, sums, [bytes(each) for each in _writes(rig)])
    await wake_up(turns, sums)
    _caller(turns, sums)
    return {key: seconds / (turns * IN_FLIGHT) * 1e6 for key, seconds in sums.items()}


async def _timed(rig: Rig, drive: Callable[[Rig, Sums], Callable[[], None]], turns: int, sums: Sums) -> None:
    step = drive(rig, {})
    await rig.turns(step, WARM_UP_TURNS)
    gc.collect()
    await rig.turns(drive(rig, sums), turns)


def _add(sums: Sums, key: str, seconds: float) -> None:
    sums[key] = sums.get(key, 0.0) + seconds


# ------------------------------------------------------------------------------------------------------------------ the parts


def codec(rig: Rig, sums: Sums) -> Callable[[], None]:
    """The codecs of both sides, with the arguments as a tuple, as the responder asks for them."""
    encode_args, bytes_to_result = rig.bound.codec.encode_args, rig.bound.codec.bytes_to_result
    bytes_to_args, result_to_bytes = rig.route.codec.bytes_to_args, rig.route.codec.result_to_bytes
    astuple = msgspec.structs.astuple
    nothing: dict[str, Any] = {}

    def step() -> None:
        started = clock()
        for message in rig.messages:
            encode_args((message,), nothing)
        for body in rig.replies:
            bytes_to_result(body)
        between = clock()
        for body in rig.bodies:
            astuple(bytes_to_args(body))
        for message in rig.messages:
            result_to_bytes(message)
        _add(sums, "codec_server", clock() - between)
        _add(sums, "codec_client", between - started)

    return step


def wire(rig: Rig, sums: Sums) -> Callable[[], None]:
    """The two protocol machines alone: calls are opened and taken, received and answered, and the answers received."""
    ours, theirs, name, flags = rig.ours.conn, rig.theirs.conn, rig.bound.wire_name, rig.bound.flags

    def step() -> None:
        pairs = list(zip(rig.outcalls(waited_for=False), rig.bodies, strict=True))
        groups = [pairs[at : at + CALLS_A_WRITE] for at in range(0, IN_FLIGHT, CALLS_A_WRITE)]
        asked: list[bytes] = []
        answered: list[bytes] = []
        started = clock()
        for group in groups:
            for call, body in group:
                ours.open_plain_call(call, name, body, flags, DEADLINE_MS, call.number)
            asked.append(ours.take_plain())
        opened = clock()
        for data in asked:
            theirs.receive_data(memoryview(data))
            events, theirs.events = theirs.events, []
            for event in events:
                theirs.send_reply(event.call, event.call.body, False)
            answered.append(theirs.take_plain())
        replied = clock()
        for data in answered:
            ours.receive_data(memoryview(data))
        ended = clock()
        _check(len(ours.events), "replies")
        ours.events.clear()
        _add(sums, "wire_client", opened - started + ended - replied)
        _add(sums, "wire_server", replied - opened)

    return step


def session(rig: Rig, sums: Sums) -> Callable[[], None]:
    """Both sessions with all that is below them. On the server that is also the codec and the handler; nobody waits for the futures."""
    ours, name, flags = rig.ours, rig.bound.wire_name, rig.bound.flags

    def step() -> None:
        calls = rig.outcalls(waited_for=True)
        waiting = [call.future for call in calls]
        started = clock()
        for call, body in zip(calls, rig.bodies, strict=True):
            ours.open_unary(call, name, body, flags, DEADLINE_MS, call.number)
        ours.flush()
        opened = clock()
        asked = rig.our_end.take()
        received = clock()
        for data in asked:
            rig.theirs.bytes_received(data)
        replied = clock()
        answered = rig.their_end.take()
        taken = clock()
        for data in answered:
            ours.bytes_received(data)
        ended = clock()
        done = sum(future.done() for future in waiting)
        for future in waiting:
            future.cancel()  # one that is done takes no notice
        _check(done, "futures that are done")
        _add(sums, "session_client+", opened - started + ended - taken)
        _add(sums, "server+", replied - received)

    return step


@types.coroutine
def _pause() -> Generator[None, None, None]:
    yield


def unary(rig: Rig, sums: Sums) -> Callable[[], None]:
    """The bound method of the public client with all that is below it, its coroutines stepped by hand: no task, no loop."""
    got: list[Any] = []

    async def caller(message: Echo) -> None:
        while True:
            got.append(await rig.echo(message))
            await _pause()

    callers = [caller(message) for message in rig.messages]

    def step() -> None:
        started = clock()
        for each in callers:
            each.send(None)
        rig.ours.flush()
        opened = clock()
        for data in rig.our_end.take():
            rig.theirs.bytes_received(data)
        answered = rig.their_end.take()
        taken = clock()
        for data in answered:
            rig.ours.bytes_received(data)
        for each in callers:
            each.send(None)
        ended = clock()
        _check(sum(reply == message for reply, message in zip(got, rig.messages, strict=True)), "replies that are right")
        got.clear()
        _add(sums, "unary+", opened - started + ended - taken)

    return step


class _Nobody:
    """The owner of handlers that never suspend."""

    def handler_returned(self, task: Any, result: Any) -> None:
        raise RuntimeError("the handler that is measured suspended")

    def handler_raised(self, task: Any, error: BaseException) -> None:
        raise error


def handler(rig: Rig, sums: Sums) -> Callable[[], None]:
    """The handler's coroutine made and sent to its end; then the same inside a HandlerTask, in a context of its own."""
    fn, loop, owner, call = rig.route.fn, rig.loop, _Nobody(), object()
    current: Any = CURRENT

    def step() -> None:
        started = clock()
        for message in rig.messages:
            try:
                fn(message).send(None)
            except StopIteration as stop:
                result = stop.value
        between = clock()
        for message in rig.messages:
            task = new_handler_task()
            result = task.run(loop, fn(message), owner, call, copy_context(), current.set)
        ended = clock()
        _check(IN_FLIGHT if result is rig.messages[-1] else 0, "results")
        _add(sums, "handler", between - started)
        _add(sums, "handler_task+", ended - between)

    return step


# ------------------------------------------------------------------------------------------------------------------ around them


async def wake_up(turns: int, sums: Sums) -> None:
    """What it takes to wake a task by its future: tasks on the loop, less the same coroutines stepped by hand."""
    loop = asyncio.get_running_loop()
    waiting: list[asyncio.Future[None]] = []

    async def waiter(count: int) -> None:
        for _ in range(count):
            future = loop.create_future()
            waiting.append(future)
            await future

    def wake() -> None:
        for future in waiting:
            future.set_result(None)
        if waiting:
            waiting.clear()
            loop.call_soon(wake)

    gc.collect()
    tasks = [loop.create_task(waiter(turns)) for _ in range(IN_FLIGHT)]
    await asyncio.sleep(0)
    started = clock()
    loop.call_soon(wake)
    await asyncio.gather(*tasks)
    on_the_loop = clock() - started
    by_hand = [waiter(turns + 1) for _ in range(IN_FLIGHT)]
    for each in by_hand:
        each.send(None)
    started = clock()
    for _ in range(turns):
        for future in waiting:
            future.set_result(None)
        waiting.clear()
        for each in by_hand:
            each.send(None)
    sums["wake_up"] = on_the_loop - (clock() - started)
    for each in by_hand:
        each.close()


class _Taker:
    """A receiver that takes everything and does nothing."""

    def __init__(self) -> None:
        self.link: Any = None

    def link_made(self, link: Any) -> None:
        """Keep the link."""
        self.link = link

    def bytes_received(self, data: memoryview | bytes) -> int:
        """Take all."""
        return len(data)

    def eof_received(self) -> None:
        """Nothing to do."""

    def link_lost(self, error: Exception | None) -> None:
        """Nothing to do."""

    def pause_writing(self) -> None:
        """Nothing to do."""

    def resume_writing(self) -> None:
        """Nothing to do."""


def _writes(rig: Rig) -> list[bytes]:
    """The bytes of one turn's calls as they are written; the answers are a little shorter."""
    head = rig.bound.wire_name + b"\0" * 32
    frames = [head + body for body in rig.bodies]
    return [b"".join(frames[at : at + CALLS_A_WRITE]) for at in range(0, IN_FLIGHT, CALLS_A_WRITE)]


async def _link(turns: int, sums: Sums, writes: list[bytes]) -> None:
    """The links in memory, which stand for the network: both directions."""
    network, (address,) = MemoryNetwork(), parse_addresses("memory://layers")
    near, far = _Taker(), _Taker()
    listening = await network.listen(address, lambda: far, ListenOptions(), lambda fact: None)
    await network.connect(address, lambda: near, timeout_s=1.0)
    await asyncio.sleep(0)
    gc.collect()
    started = clock()
    for _ in range(turns):
        for link in (near.link, far.link):
            for data in writes:
                link.write(data)
        await asyncio.sleep(0)
    sums["link"] = clock() - started
    near.link.abort()
    await asyncio.sleep(0)
    listening.close()


def _caller(turns: int, sums: Sums) -> None:
    """What the measured tasks do themselves: an argument that differs from call to call, and the reply compared with it."""
    started = clock()
    for number in range(turns * IN_FLIGHT):
        message = message_of(number)
        compared(message, message)
    sums["caller"] = clock() - started


def _check(found: int, what: str) -> None:
    if found != IN_FLIGHT:
        raise RuntimeError(f"bench: expected {IN_FLIGHT} {what} in a turn, got {found}: the layers cannot be driven this way any more")
