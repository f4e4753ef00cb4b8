"""Sessions that take the short way of what is alone do, say and write what they would have without it."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Coroutine

import pytest

import holdfast
from holdfast.errors import Unavailable
from holdfast.facts import ConnectionClosed
from holdfast.rpc.outcall import Outcall
from holdfast.rpc.session import EARLY_CHUNKS
from holdfast.wire import Called, CallState, GoneAway, Replied, frames
from holdfast.wire.lone import Lone
from holdfast.wire.outbox import LARGE_BYTES
from tests.rpc import test_reception
from tests.rpc.links import Bench, turn
from tests.rpc.test_reception import Door, waiting

STEPS = 100
SEEDS = 20
WAYS = ("receive_lone_call", "receive_lone_reply", "open_lone_call")


def counting(name: str, found: dict[str, int]) -> Callable[..., object]:
    """That short way, which counts how often it is gone."""
    original = getattr(Lone, name)

    def counted(self: Lone, *args: object) -> object:
        result = original(self, *args)
        found[name] += bool(result)
        return result

    return counted


async def serve(seed: int) -> list[object]:
    """A server's connection under calls that come one by one, together and in parts, and under everything beside them."""
    rng, log = random.Random(seed), list[object]()
    door = await Door().open()
    session, client = door.session, door.client
    opened: list[CallState] = []
    rest = b""
    for step in range(STEPS):
        what = rng.choice(
            ["call", "call", "call", "call", "slow", "unknown", "expired", "cancel", "ping", "pause", "resume", "resume", "finish", "much"]
        )
        for _ in range(rng.choice([1, 1, 1, 2, 30]) if what == "call" else 1):
            if what in ("call", "slow", "unknown", "expired", "much") and client.state == "OPEN":
                opened.append(CallState())
                name = {"slow": b"shop.slow", "unknown": b"shop.none"}.get(what, b"shop.quick")
                body = bytes(3000) if what == "much" else b"\x80"
                client.open_call(opened[-1], name, body, False, 1 if what == "expired" else 0, step)
        if what == "cancel" and opened:
            client.cancel(rng.choice(opened))
        elif what == "ping":
            client.send_ping(bytes(8))
        elif what == "pause":
            session.pause_writing()
        elif what == "resume" and session.paused:
            session.resume_writing()
        elif what == "finish" and waiting:
            future = waiting.pop()
            if not future.done():
                future.set_result(None)
        elif step == STEPS - 10 and seed % 2:
            session.say_goodbye()
        rest += client.take_output(1 << 24)
        cut = len(rest) if rng.random() < 0.8 else rng.randrange(len(rest) + 1)
        if rest and (door.link.reading or rng.random() < 0.3):
            door.time.time += 0.01
            asyncio.get_running_loop().call_soon(received, session, rest[:cut], log)
            await turn()
            used = log[-1]
            assert isinstance(used, int)
            rest = rest[used:]
        await turn()
        written = list(door.link.written)
        client.receive_data(door.link.taken())
        client.events.clear()
        log += [what, written, list(session.conn.calls), session._heard_at, session._rest_at, door.link.ended]
    session.link_lost(None)
    for future in waiting:
        future.cancel()
    waiting.clear()
    await turn()
    return log


def received(session: object, data: bytes, log: list[object]) -> None:
    log.append(session.bytes_received(data))  # type: ignore[attr-defined]


async def call(seed: int) -> list[object]:
    """A client's connection with calls that are alone and calls that are not, and answers of every kind."""
    rng, log = random.Random(seed), list[object]()
    bench = Bench()
    caller, peer, loop = bench.shake_hands(), bench.peer, asyncio.get_running_loop()
    open_there: list[CallState] = []
    futures: list[asyncio.Future[object]] = []
    rest = b""
    for step in range(STEPS):
        what = rng.choice(
            [
                "call",
                "call",
                "call",
                "answer",
                "answer",
                "answer",
                "error",
                "ping",
                "pause",
                "resume",
                "resume",
                "give up",
                "expire",
                "line",
            ]
        )
        if what == "call":
            for _ in range(rng.choice([1, 1, 1, 2, EARLY_CHUNKS])):
                futures.append(loop.create_future())
                ours = Outcall(
                    0, None, futures[-1], math.inf if rng.random() < 0.7 else bench.time.now() + 1.0, None, math.inf, "a.b", step
                )
                log.append(caller.open_unary(ours, b"a.b", b"x" * rng.choice([1, 900, 1100]), frames.RAW, 1000, step))
        elif what == "answer" and open_there:
            for _ in range(rng.choice([1, 1, 1, len(open_there)])):
                if open_there:
                    peer.send_reply(open_there.pop(rng.randrange(len(open_there))), b"y" * rng.choice([0, 1, 3000]), True)
        elif what == "error" and open_there:
            peer.send_error(open_there.pop(), b"\x80")
        elif what == "ping":
            peer.send_ping(bytes(8))
        elif what == "pause":
            caller.pause_writing()
        elif what == "resume" and caller.paused:
            caller.resume_writing()
        elif what == "give up" and caller.conn.calls:
            ours = next(iter(caller.conn.calls.values()))
            assert isinstance(ours, Outcall)
            caller.give_up(ours)
        elif what == "expire":
            bench.time.advance(1.1)
        elif what == "line" and step > STEPS // 2 and seed % 2:
            caller.retire()
        await turn()
        written = list(bench.link.written)
        peer.receive_data(bench.link.taken())
        open_there += [event.call for event in peer.events if isinstance(event, Called)]
        peer.events.clear()
        rest += peer.take_output(1 << 24)
        cut = len(rest) if rng.random() < 0.8 else rng.randrange(len(rest) + 1)
        if rest:
            bench.time.time += 0.01
            rest = rest[caller.bytes_received(rest[:cut]) :]
        log += [what, written, list(caller.conn.calls), caller.conn.sent_id, caller._heard_at, caller._rest_at, caller.answered]
        log += [bench.link.ended, [future.done() for future in futures]]
    bench.lose()
    log += [repr(future.exception()) if future.exception() else future.result().body for future in futures if future.done()]  # type: ignore[attr-defined]
    return log


async def both_ways(run: Callable[[int], Coroutine[None, None, list[object]]]) -> dict[str, int]:
    """Run each seed with and without the short way; return how often it was gone."""
    gone = dict.fromkeys(WAYS, 0)
    for seed in range(SEEDS):
        with pytest.MonkeyPatch.context() as patch:
            for name in WAYS:
                patch.setattr(Lone, name, counting(name, gone))
            short = await run(seed)
        with pytest.MonkeyPatch.context() as patch:
            for name in WAYS:
                patch.setattr(Lone, name, lambda self, *args: b"" if len(args) > 1 else None)
            assert await run(seed) == short, f"seed {seed}"
    return gone


async def test_a_server_answers_the_same() -> None:
    gone = await both_ways(serve)
    assert gone["receive_lone_call"] > 10 * SEEDS


async def test_a_client_hears_and_says_the_same() -> None:
    gone = await both_ways(call)
    assert min(gone["receive_lone_reply"], gone["open_lone_call"]) > SEEDS


async def test_what_a_call_that_is_alone_brings_about_is_dealt_with_before_the_read_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    svc = holdfast.Service("shop")
    monkeypatch.setattr(test_reception, "svc", svc)

    @svc.method
    async def large() -> bytes:
        return bytes(LARGE_BYTES)

    @svc.method
    async def fails() -> None:
        door.session.conn.fail(frames.IDLE, "enough of this")

    def read() -> None:
        door.session.bytes_received(door.client.take_output(1 << 24))
        door.client.receive_data(door.link.taken())

    door = await Door().open()
    door.client.events.clear()
    for method in (b"shop.large", b"shop.fails"):
        door.call(method)
        asyncio.get_running_loop().call_soon(read)
        await turn()
    replied, gone = door.client.events
    assert isinstance(replied, Replied)
    assert len(replied.body) == LARGE_BYTES
    assert isinstance(gone, GoneAway)
    assert door.link.ended == "closed"
    assert not door.session.conn.events
    door.session.link_lost(None)
    assert [fact.reason for fact in door.facts if isinstance(fact, ConnectionClosed)] == ["enough of this"]


async def test_a_call_that_is_alone_and_that_a_closing_link_does_not_take_has_not_left() -> None:
    bench, future = Bench(), asyncio.get_running_loop().create_future()
    caller = bench.shake_hands()
    bench.link.close()
    assert caller.open_unary(Outcall(future=future, method="a.b"), b"a.b", b"", frames.RAW, 0, 1)
    bench.lose()
    with pytest.raises(Unavailable, match="the call had not left"):
        await future
