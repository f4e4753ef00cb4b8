"""Peers that do not speak our protocol, or only to harm: one clear answer, a close, and no memory spent on them."""

from __future__ import annotations

import asyncio
import tracemalloc
from typing import Any

import pytest

import holdfast
from holdfast.facts import ConnectionRefused
from holdfast.wire import frames

from .helpers import HELLO, PATIENCE_S, call_frame, raw_peer, rig

svc = holdfast.Service("t")

CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(194)
BOMB = b"\x91" * 50_000


@svc.method
async def echo(text: str) -> str:
    return text


@svc.method
async def deep(value: list[Any]) -> int:
    return len(value)


@svc.method
async def metadata(ctx: holdfast.Context) -> dict[str, str]:
    return dict(ctx.metadata)


STRANGERS = {
    "garbage": (b"\xde\xad\xbe\xef" * 4, "it sent bytes de ad be ef"),
    "a line": (b"hello there\r\n", "it sent"),
    "http": (b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n", "it speaks HTTP"),
    "http2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "it speaks HTTP"),
    "tls": (CLIENT_HELLO, "it sent a TLS handshake to a plain port"),
    "another version": (frames.PREFACE[:-1] + b"\x07" + bytes(30), "it speaks version 7 of the holdfast protocol; we speak version 1"),
}


@pytest.mark.both_loops
@pytest.mark.parametrize("name", STRANGERS)
async def test_a_stranger_gets_one_clear_line_and_a_close(name: str) -> None:
    sent, said = STRANGERS[name]
    async with rig(svc) as here:
        for pieces in ([sent], [sent[i : i + 1] for i in range(len(frames.PREFACE))]):  # at once, and as little as tells who it is
            async with raw_peer(here.url) as peer:
                for piece in pieces:
                    peer.send(piece)
                answer = await peer.rest()
            assert answer.startswith(b"holdfast: this port speaks the holdfast protocol, version 1; "), answer
            assert answer.count(b"\n") == 1
            assert said in answer.decode()
        assert await here.client.call("t.echo", "x") == "x"  # nobody else was disturbed
        await here.clean()
    assert [(said in fact.reason, fact.count) for fact in here.seen(ConnectionRefused)] == [(True, 1), (True, 1)]


@pytest.mark.both_loops
@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x15\x03\x01\0\x02\x02\x46\0", b"SSH-2.0-OpenSSH_9.6\r\n", b""])
async def test_a_client_that_called_somebody_else_says_who_answers(answer: bytes) -> None:
    async def other(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server = await asyncio.start_server(other, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    said = {b"H": "HTTP", b"\x15": "TLS", b"S": "SSH", b"": "closed|lost"}[answer[:1]]
    async with server, holdfast.connect(f"tcp://127.0.0.1:{port}", attempts=1) as client:
        with pytest.raises((holdfast.ProtocolError, holdfast.Unavailable), match=said) as caught:
            await client.call("t.echo", "x")
        assert caught.value.executed == "no"


@pytest.mark.parametrize("greeted", [False, True])
@pytest.mark.parametrize("length", [65 * 1024 + 1, 2**31, 2**32 - 1])
async def test_a_frame_longer_than_the_limit_is_refused_before_anything_is_allocated(length: int, greeted: bool) -> None:
    header = frames.HEADER.pack(length, frames.CALL if greeted else frames.HELLO, 0, 1 if greeted else 0)
    async with rig(svc) as here:
        async with raw_peer(here.url, hello=True):
            pass  # what is made once per process is made
        async with raw_peer(here.url, hello=greeted) as peer:
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
                peer.send(header if greeted else frames.PREFACE + header)
                answer = await peer.rest()
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert f"{length}".encode() in answer
        assert b"the limit is" in answer
        assert peak - before < 64 * 1024
        await here.clean()


async def test_a_message_that_claims_more_than_the_limit_is_refused_alone() -> None:
    total = 2**32 - 1
    payload = frames.TOTAL.pack(total) + frames.CALL_HEAD.pack(0, 1, 0, 6) + b"t.echo" + b"\xa1x"
    async with rig(svc) as here, raw_peer(here.url, hello=True) as peer:
        peer.send(frames.pack_frame(frames.CALL, frames.MORE, 1, payload))
        _, call_id, body = await peer.frame_of(frames.ERROR)
        assert call_id == 1
        assert str(total).encode() in body
        peer.send(call_frame("t.echo", b"\x81\xa4text\xa1x", call_id=2))
        assert await peer.frame_of(frames.REPLY) == (0, 2, b"\xa1x")


@pytest.mark.parametrize(
    "bomb",
    [
        call_frame("t.deep", b"\x81\xa5value" + BOMB),
        call_frame("t.deep", b"\x81\xa5value" + b"\x81\xa1a" * 20_000),
        call_frame("t.deep", BOMB),
        call_frame("t.deep", b"\x81\xa5other" + BOMB),
        call_frame("t.deep", b"\x81\xa5value\xdd\xff\xff\xff\xff"),
        call_frame("t.deep", b"\x81\xa5value\xc6\xff\xff\xff\xff"),
        call_frame("t.deep", b"\xdf\xff\xff\xff\xff"),
        call_frame("t.deep", b""),
        call_frame("t.deep", b"\xc1"),
    ],
    ids=["arrays", "maps", "no map", "unknown name", "huge array", "huge bytes", "huge map", "nothing", "never used"],
)
async def test_a_nesting_bomb_or_a_lie_in_the_arguments_is_an_invalid_argument_and_no_more(bomb: bytes) -> None:
    async with rig(svc) as here, raw_peer(here.url, hello=True) as peer:
        peer.send(bomb)
        _, call_id, body = await peer.frame_of(frames.ERROR)
        assert call_id == 1
        assert b"\xa1c\x03" in body  # invalid_argument
        assert b"t.deep" in body
        peer.send(call_frame("t.echo", b"\x81\xa4text\xa1x", call_id=2))
        assert await peer.frame_of(frames.REPLY) == (0, 2, b"\xa1x")
        await here.clean()


@pytest.mark.parametrize("packed", [BOMB, b"\x81\xa1a" * 20_000, b"\x81\xa1a\x01", b"\xc1", b""])
async def test_metadata_that_cannot_be_read_is_no_metadata(packed: bytes) -> None:
    async with rig(svc) as here, raw_peer(here.url, hello=True) as peer:
        peer.send(call_frame("t.metadata", metadata=packed))
        assert await peer.frame_of(frames.REPLY) == (0, 1, b"\x80")
        assert await here.client.call("t.metadata", metadata={"a": "b"}) == {"a": "b"}


@pytest.mark.parametrize("settings", [b"\x91" * 16_000, b"\xc1", b"\x81\xaffram", b"\x81\xafframe_max_bytes\x01", b""])
async def test_settings_that_cannot_be_read_end_the_handshake_with_a_reason(settings: bytes) -> None:
    async with rig(svc) as here, raw_peer(here.url) as peer:
        peer.send(frames.PREFACE + frames.pack_frame(frames.HELLO, 0, 0, settings))
        answer = await peer.rest()
        assert b"the peer's settings cannot be used" in answer
        assert await here.client.call("t.echo", "x") == "x"


async def test_who_says_hello_and_calls_at_once_is_told_to_wait() -> None:
    async with rig(svc) as here, raw_peer(here.url) as peer:
        peer.send(HELLO + call_frame("t.echo", b"\x81\xa4text\xa1x"))
        assert b"a client waits for it" in await peer.rest()


async def nested_reply(depth: int, how: str) -> holdfast.HoldfastError:
    """What a client makes of a server whose reply is a bomb."""
    bomb = {"arrays": b"\x91" * depth, "maps": b"\x81\xa1a" * depth, "huge": b"\xdd\xff\xff\xff\xff"}[how]
    async with rig(svc) as here:
        route = here.desk.router.find(b"t.echo")
        assert route is not None
        before = route.codec.encode_result
        route.codec.encode_result = lambda value: bomb
        try:
            with pytest.raises(holdfast.BadReply) as caught:
                await here.client.call("t.echo", "x", returns=list)
        finally:
            route.codec.encode_result = before
        assert await here.client.call("t.echo", "x") == "x"
        await here.clean()
        return caught.value


@pytest.mark.parametrize("how", ["arrays", "maps", "huge"])
async def test_a_reply_that_is_a_nesting_bomb_is_a_bad_reply(how: str) -> None:
    error = await nested_reply(20_000, how)
    assert error.executed == "yes"


async def test_a_peer_that_dribbles_its_hello_is_turned_away_in_time() -> None:
    """The clock is the server's, and goes a minute on between two bytes."""
    ahead = 0.0

    class Clock:
        def now(self) -> float:
            return asyncio.get_running_loop().time() + ahead

    async with rig(svc, clock=Clock()) as here, raw_peer(here.url) as peer:
        peer.send(HELLO[:10])
        await asyncio.sleep(0)
        waiting = [session for session in here.theirs if session.peer is None]
        while not waiting:
            await asyncio.sleep(0)
            waiting = [session for session in here.theirs if session.peer is None]
        ahead = 60.0
        waiting[0]._look_at_the_clock()
        async with asyncio.timeout(PATIENCE_S):
            assert b"no handshake within 5 s" in await peer.rest()
