"""Peers that make work for nothing: they are told why, and nobody else notices."""

from __future__ import annotations

import tracemalloc

import pytest

import holdfast
from holdfast.facts import ConnectionClosed
from holdfast.wire import frames
from tests.faults.helpers import HELLO, call_frame, raw_peer, rig, until

svc = holdfast.Service("shop")
started: list[int] = []


@svc.method
async def price(sku: str = "") -> float:
    started.append(1)
    return 9.9


def goaway(payload: bytes) -> tuple[int, str]:
    return payload[8], payload[9:].decode()


async def test_call_and_cancel_in_a_loop_is_cut_with_the_reason_and_starts_no_handlers() -> None:
    started.clear()
    async with rig(svc) as here:
        async with raw_peer(here.url, hello=True) as peer:
            pairs = [call_frame("shop.price", call_id=n) + frames.pack_frame(frames.CANCEL, 0, n) for n in range(1, 10_001)]
            peer.send(b"".join(pairs))
            _, _, payload = await peer.frame_of(frames.GOAWAY)
            reason, text = goaway(payload)
            assert reason == frames.ABUSE
            assert "cancelled faster than 200 a second" in text
        assert not started, "each CANCEL was there before its handler could begin"
        await until(lambda: here.seen(ConnectionClosed))
        assert await here.client.call("shop.price", returns=float) == 9.9
        await here.clean()


async def test_cancels_within_the_budget_are_no_abuse() -> None:
    async with rig(svc, cancels_per_s=1000.0) as here, raw_peer(here.url, hello=True) as peer:
        for first in range(1, 9001, 1001):  # at once 2 x 1,024 and ten seconds of 1,000
            pairs = [call_frame("shop.price", call_id=n) + frames.pack_frame(frames.CANCEL, 0, n) for n in range(first, first + 1000)]
            peer.send(b"".join(pairs))
            peer.send(call_frame("shop.price", call_id=first + 1000))
            await peer.frame_of(frames.REPLY)


async def test_pings_without_end_are_cut_with_the_reason() -> None:
    async with rig(svc) as here:
        async with raw_peer(here.url, hello=True) as peer:
            ping = frames.pack_frame(frames.PING, 0, 0, b"12345678")
            for _ in range(100):
                peer.send(ping)
                await peer.frame_of(frames.PONG)
            for _ in range(60):
                peer.send(ping)
            _, _, payload = await peer.frame_of(frames.GOAWAY)
            reason, text = goaway(payload)
            assert reason in (frames.ABUSE, frames.FLOW)
            assert "pings came" in text
        assert await here.client.call("shop.price", returns=float) == 9.9


HOSTILE = {
    "a length of 2 GiB": frames.HEADER.pack(2**31, frames.CALL, 0, 1),
    "the longest length there is": frames.HEADER.pack(2**32 - 1, 0x7F, 0, 1),
    "a message of 4 GiB in pieces": frames.pack_frame(
        frames.CALL, frames.MORE, 1, frames.TOTAL.pack(2**32 - 1) + frames.CALL_HEAD.pack(0, 1, 0, 10) + b"shop.price"
    ),
    "arguments nested 60,000 deep": call_frame("shop.price", b"\x91" * 60_000 + b"\xc0"),
    "an argument nested 60,000 deep": call_frame("shop.price", b"\x81\xa3sku" + b"\x91" * 60_000 + b"\xc0"),
    "metadata nested deep": call_frame("shop.price", metadata=b"\x91" * 60_000),
    "a map that claims 2**32 keys": call_frame("shop.price", b"\xdf\xff\xff\xff\xff"),
    "bytes that claim 4 GiB": call_frame("shop.price", b"\x81\xa3sku\xc6\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_claim_costs_nothing_and_is_refused_with_a_reason(name: str) -> None:
    async with rig(svc) as here:
        async with raw_peer(here.url, hello=True) as peer:
            tracemalloc.start()
            try:
                peer.send(HOSTILE[name])
                kind, _, _, payload = await peer.frame()
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
            assert kind in (frames.GOAWAY, frames.ERROR, frames.REPLY)
            if name != "metadata nested deep":
                assert kind != frames.REPLY
                assert payload
            sent = len(HOSTILE[name])  # the peer itself, and what was read, are in this process too
            assert peak < 64 * 1024 + 6 * sent
        assert await here.client.call("shop.price", returns=float) == 9.9


async def test_one_byte_at_a_time_is_as_good_as_any_other_cut() -> None:
    async with rig(svc) as here, raw_peer(here.url) as peer:
        for byte in HELLO:
            peer.send(bytes([byte]))
            await peer.writer.drain()
        assert await peer.reader.readexactly(len(frames.PREFACE)) == frames.PREFACE
        await peer.frame_of(frames.WELCOME)
        for byte in call_frame("shop.price"):
            peer.send(bytes([byte]))
            await peer.writer.drain()
        _, call_id, _ = await peer.frame_of(frames.REPLY)
        assert call_id == 1
