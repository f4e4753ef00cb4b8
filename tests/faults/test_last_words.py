"""What a server says last arrives: the reason of a GOAWAY, and the answers, at a peer that is still sending."""

from __future__ import annotations

import asyncio

import pytest

import holdfast
from holdfast.net.address import parse_address
from holdfast.wire import frames
from tests.faults.helpers import HELLO, PATIENCE_S, call_frame, kernel, rig, until
from tests.net.helpers import Recorder

svc = holdfast.Service("t")


@svc.method
async def length(data: bytes) -> int:
    return len(data)


class Talker(Recorder):
    """Listens only when it has said everything."""

    def say(self, data: bytes) -> None:
        self.link.pause_reading()
        self.link.write(data)
        if not self.link.write_buffer_bytes():
            self.link.resume_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.link.resume_reading()

    def frames(self) -> list[tuple[int, bytes]]:
        """What the server has said after its preface: kinds and payloads."""
        found, at = [], len(frames.PREFACE)
        while at + frames.HEADER_BYTES <= len(self.data):
            size, kind, _, _ = frames.HEADER.unpack_from(self.data, at)
            at += frames.HEADER_BYTES + size
            found.append((kind, bytes(self.data[at - size : at])))
        return found


async def talker(url: str) -> Talker:
    made = Talker()
    await kernel().connect(parse_address(url), lambda: made, timeout_s=PATIENCE_S)
    return made


@pytest.mark.both_loops
async def test_a_peer_that_floods_us_with_nonsense_reads_what_was_wrong_with_it() -> None:
    async with rig(svc, ready=False) as here:
        peer = await talker(here.url)
        nonsense = frames.pack_frame(0x10, 0xFF, 1, b"x" * 1000)
        peer.say(HELLO)
        await peer.until(lambda: frames.WELCOME in [kind for kind, _ in peer.frames()])
        peer.say(nonsense * 6000)
        await peer.until(lambda: peer.lost)
        kind, payload = peer.frames()[-1]
        assert kind == frames.GOAWAY
        assert b"flag" in payload
        assert peer.error is None


@pytest.mark.both_loops
async def test_a_close_while_a_client_is_sending_loses_no_answer() -> None:
    async with rig(svc, ready=False) as here:
        peer = await talker(here.url)
        peer.say(HELLO)
        await peer.until(lambda: frames.WELCOME in [kind for kind, _ in peer.frames()])
        calls = 60
        peer.say(b"".join(call_frame("t.length", b"x" * 50_000, call_id=n, raw=True) for n in range(1, calls + 1)))
        await until(lambda: here.desk.running or len(here.theirs[0].conn.calls) or peer.data)
        closing = asyncio.get_running_loop().create_task(here.server.close())
        await peer.until(lambda: peer.lost)
        await closing
        kinds = [kind for kind, _ in peer.frames()]
        goaways = [payload for kind, payload in peer.frames() if kind == frames.GOAWAY]
        last_id, _ = frames.GOAWAY_HEAD.unpack_from(goaways[-1])
        answered = kinds.count(frames.REPLY) + kinds.count(frames.ERROR)
        assert answered == min(last_id, calls), "every call that was taken is answered, and the answer arrives"
        assert peer.error is None
