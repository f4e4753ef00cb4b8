"""The stream link above a transport that does what the test says: order, stalls, size."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

import msgspec
import pytest

from holdfast.control.wheel import Wheel
from holdfast.net.rest import SCRATCH_BYTES
from holdfast.net.tcp import LINGER_MAX_BYTES, SMALL_READ_BYTES, SMALL_READS, LinkShared, StreamLink, printable
from tests.control.test_wheel import FakeLoop
from tests.net.helpers import Recorder, turns_until


class FakeTransport:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.buffered = 0
        self.limits = (0, 0)
        self.reading = True
        self.gone = False  # the peer reset the connection
        self.protocol: asyncio.BaseProtocol | None = None

    def set_write_buffer_limits(self, high: int, low: int | None = None) -> None:
        self.limits = (high, high // 4 if low is None else low)

    def is_reading(self) -> bool:
        return self.reading

    def is_closing(self) -> bool:
        return "close" in self.calls or "abort" in self.calls

    def write_eof(self) -> None:
        self.calls.append("write_eof")
        if self.gone:
            raise OSError(107, "Transport endpoint is not connected")

    def get_extra_info(self, name: str) -> object:
        return {"sockname": ("127.0.0.1", 1), "peername": ("::1", 2, 0, 0)}.get(name)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.calls.append(name)


class Scene:
    def __init__(self, receiver: Recorder) -> None:
        self.loop = FakeLoop()
        self.unsent = 0
        self.resets = 0
        shared = LinkShared(Wheel(self.loop.now, self.loop.call_at), 10.0, 200, 50, lambda _: self.unsent, self.reset)
        self.receiver = receiver
        self.shared = shared
        self.link = StreamLink(shared, lambda: receiver)
        self.transport = FakeTransport()

    def reset(self, _: object) -> None:
        self.resets += 1

    def made(self) -> Scene:
        self.link.connection_made(cast("asyncio.Transport", self.transport))
        return self

    def read(self, data: bytes) -> None:
        """What a loop does with bytes from the kernel, in as many reads as the buffer makes it."""
        while data:
            buffer = self.link.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            self.link.buffer_updated(size)


def test_an_idle_link_is_small() -> None:
    scene = Scene(Recorder()).made()
    scene.read(b"some bytes, all used")
    link = scene.link
    assert not hasattr(link, "__dict__")
    own = sum(map(sys.getsizeof, (link, link.local, link.peer)))
    assert own < 500
    assert (link._rest, link._aside, link._watch) == (b"", None, None)


def test_the_water_marks_reach_the_transport_and_the_ends_have_names() -> None:
    scene = Scene(Recorder()).made()
    assert scene.transport.limits == (200, 50)
    assert (scene.link.local, scene.link.peer) == ("tcp://127.0.0.1:1", "tcp://[::1]:2")


class Blocks(Recorder):
    """Uses blocks of 1,000 bytes, as a session uses frames."""

    def bytes_received(self, data: memoryview | bytes) -> int:
        return super().bytes_received(data[: len(data) // 1000 * 1000])


def large_reads(scene: Scene) -> asyncio.BufferedProtocol:
    """Have a large read come, so that the link wants others written to its scratch."""
    scene.link.data_received(b"a" * 500)
    assert scene.transport.protocol is None
    scene.link.data_received(b"b" * 40_700)
    protocol = scene.transport.protocol
    assert isinstance(protocol, asyncio.BufferedProtocol)
    return protocol


def test_large_reads_that_follow_one_another_go_to_the_scratch_until_many_small_ones_come() -> None:
    scene = Scene(Blocks()).made()
    protocol = large_reads(scene)
    expected = b"a" * 500 + b"b" * 40_700

    def read(size: int) -> None:
        nonlocal expected
        protocol.get_buffer(-1)[:size] = b"c" * size
        protocol.buffer_updated(size)
        expected += b"c" * size

    for size in (100_500, 300, *[1000] * (SMALL_READS - 2), SMALL_READ_BYTES + 1, 903, *[1000] * (SMALL_READS - 2), 500):
        read(size)
        assert scene.transport.protocol is protocol, "not yet; and at last there are many, but something is left"
    read(500)
    assert cast("object", scene.transport.protocol) is scene.link
    scene.link.data_received(b"d" * 1000)
    assert scene.receiver.data == expected + b"d" * 1000


def test_while_large_reads_go_to_the_scratch_the_link_hears_everything_else() -> None:
    scene = Scene(Blocks()).made()
    protocol = large_reads(scene)
    protocol.pause_writing()
    protocol.resume_writing()
    assert protocol.eof_received() is False
    protocol.connection_lost(None)
    assert scene.receiver.calls == ["link_made", "bytes_received", "pause_writing", "resume_writing", "eof_received", "link_lost"]
    scene.link.expect_little()
    assert scene.transport.protocol is protocol, "it is over"


def test_a_link_that_closes_meanwhile_expects_nothing() -> None:
    class Closing(Blocks):
        def bytes_received(self, data: memoryview | bytes) -> int:
            self.link.close()
            return super().bytes_received(data)

    for first in (b"", b"a" * 500):
        scene = Scene(Closing()).made()
        scene.link._rest = first
        scene.link.data_received(b"b" * 40_700)
        assert scene.transport.protocol is None


def test_a_link_that_was_given_up_before_it_was_made_tells_nobody() -> None:
    scene = Scene(Recorder())
    scene.link.abort()
    scene.made()
    scene.link.connection_lost(None)
    assert scene.transport.calls == ["abort"]
    assert scene.receiver.calls == []


async def test_a_link_that_is_given_up_ends_once_whether_or_not_its_transport_says_so() -> None:
    scene = Scene(Recorder()).made()
    scene.link.give_up()
    assert scene.receiver.calls == ["link_made"]
    await scene.receiver.until(lambda: scene.receiver.lost)
    scene.link.connection_lost(None)
    assert scene.receiver.calls == ["link_made", "link_lost"]


def test_nothing_is_delivered_after_close() -> None:
    scene = Scene(Recorder()).made()
    scene.link.close()
    scene.link.buffer_updated(5)
    scene.link.eof_received()
    scene.link.write(b"x")
    scene.link.connection_lost(None)
    assert scene.receiver.calls == ["link_made", "link_lost"]
    assert scene.transport.calls == ["write_eof"]


def test_a_read_under_way_when_reading_was_paused_is_kept() -> None:
    scene = Scene(Recorder()).made()
    scene.link.pause_reading()
    scene.read(b"late")
    assert scene.receiver.data == b""
    assert scene.link._rest == b"late"


def test_slow_but_steady_is_no_stall_even_if_only_the_kernel_moves() -> None:
    scene = Scene(Recorder()).made()
    scene.transport.buffered, scene.unsent = 1000, 1_000_000
    scene.link.pause_writing()
    for n in range(1, 20):
        scene.unsent -= 1
        scene.loop.advance(100.0 + 9.5 * n)
    assert not scene.link.is_closing()
    scene.loop.advance(400.0)
    assert scene.link.is_closing()
    assert scene.resets == 1
    scene.link.connection_lost(None)
    assert "stopped reading: 1000 bytes wait" in str(scene.receiver.error)


def test_resume_writing_ends_the_watch() -> None:
    scene = Scene(Recorder()).made()
    scene.transport.buffered = 1000
    scene.link.pause_writing()
    scene.link.resume_writing()
    scene.loop.advance(400.0)
    assert not scene.link.is_closing()
    assert scene.receiver.calls == ["link_made", "pause_writing", "resume_writing"]


def test_close_with_bytes_waiting_is_bounded_by_time_alone() -> None:
    scene = Scene(Recorder()).made()
    scene.transport.buffered = 1000
    scene.link.close()
    assert scene.transport.limits == (0, 0), "or nobody would say when all has left"
    scene.transport.buffered = 10
    scene.loop.advance(109.9)
    assert scene.transport.calls == []
    scene.loop.advance(111.0)
    assert scene.transport.calls == ["abort"]


def test_the_close_after_an_end_of_stream_is_bounded_too() -> None:
    scene = Scene(Recorder()).made()
    scene.transport.buffered = 1000
    scene.link.eof_received()
    assert scene.receiver.calls == ["link_made", "eof_received"]
    assert scene.link.is_closing()
    scene.loop.advance(111.0)
    assert scene.transport.calls == ["close", "abort"]


# --------------------------------------------------------------------------------------------------------- the lingering close


def test_a_close_says_that_no_more_comes_and_reads_on_for_nobody() -> None:
    scene = Scene(Recorder()).made()
    scene.transport.reading = False
    scene.link.close()
    assert scene.transport.calls == ["write_eof", "resume_reading"]
    scene.read(b"x" * 1000)
    assert scene.link.get_buffer(-1) is scene.link._scratch, "nothing of it is kept"
    scene.link.eof_received()
    assert scene.receiver.calls == ["link_made"]


def test_nothing_that_moves_ends_the_close_after_a_second() -> None:
    scene = Scene(Recorder()).made()
    scene.link.close()
    scene.loop.advance(100.9)
    assert scene.transport.calls == ["write_eof"]
    scene.loop.advance(101.1)
    assert scene.transport.calls == ["write_eof", "close"]


def test_the_close_waits_while_the_kernel_brings_the_peer_what_was_written_and_not_for_ever() -> None:
    scene = Scene(Recorder()).made()
    scene.unsent = 1_000_000
    scene.link.close()
    for n in range(1, 10):
        scene.unsent -= 1
        scene.loop.advance(100.05 + n)
    assert scene.transport.calls == ["write_eof"]
    scene.unsent -= 1
    scene.loop.advance(110.1)  # the send stall deadline holds for the whole of it
    assert scene.transport.calls == ["write_eof", "close"]


def test_a_peer_that_takes_nothing_more_ends_the_close() -> None:
    scene = Scene(Recorder()).made()
    scene.unsent = 1_000_000
    scene.link.close()
    scene.loop.advance(101.1)
    assert scene.transport.calls == ["write_eof", "close"]


def test_a_closing_link_takes_a_bounded_number_of_bytes() -> None:
    scene = Scene(Recorder()).made()
    scene.link.close()
    for _ in range(LINGER_MAX_BYTES // SCRATCH_BYTES):
        scene.read(b"x" * SCRATCH_BYTES)
    assert "pause_reading" not in scene.transport.calls
    scene.read(b"x")
    assert scene.transport.calls == ["write_eof", "pause_reading"]


async def test_what_waits_leaves_before_the_end_is_said() -> None:
    scene = Scene(Recorder()).made()
    scene.transport.buffered = 1000
    scene.link.close()
    assert scene.transport.calls == []
    scene.transport.buffered = 0
    scene.link.resume_writing()
    await turns_until(lambda: scene.transport.calls)
    assert scene.transport.calls == ["write_eof"]
    scene.loop.advance(101.1)
    assert scene.transport.calls == ["write_eof", "close"]


def test_a_peer_that_has_said_its_end_is_not_waited_for() -> None:
    scene = Scene(Recorder()).made()
    scene.link.eof_received()
    assert scene.transport.calls == ["close"]


def test_a_peer_that_is_gone_when_the_end_is_said_ends_it() -> None:
    scene = Scene(Recorder()).made()
    scene.transport.gone = True
    scene.link.close()
    assert scene.transport.calls == ["write_eof", "abort"]


def test_a_reset_after_our_last_word_is_an_ordinary_end_and_before_it_is_not() -> None:
    for waiting, expected in ((0, None), (1000, ConnectionResetError)):
        scene = Scene(Recorder()).made()
        scene.transport.buffered = waiting
        scene.link.close()
        scene.link.connection_lost(ConnectionResetError("reset"))
        assert (expected is None) == (scene.receiver.error is None)


def test_a_network_may_be_told_not_to_linger() -> None:
    scene = Scene(Recorder())
    scene.link = StreamLink(msgspec.structs.replace(scene.shared, linger_s=0.0), lambda: scene.receiver)
    scene.made()
    scene.link.close()
    assert scene.transport.calls == ["close"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (("127.0.0.1", 7), "tcp://127.0.0.1:7"),
        (("::1", 7, 0, 0), "tcp://[::1]:7"),
        ("/run/x", "unix:///run/x"),
        (b"\0abstract", "unix://@abstract"),
        ("", ""),
        (None, ""),
    ],
)
def test_socket_names_are_printable(name: object, text: str) -> None:
    assert printable(name) == text
