"""The stream link above a transport that does what the test says: rests, the shared scratch, order, size."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.control.wheel import Wheel
from holdfast.errors import ProtocolError
from holdfast.net import tcp
from holdfast.net.tcp import REST_IN_SCRATCH_BYTES, SCRATCH_BYTES, LinkShared, StreamLink, printable, scratch_of_this_thread
from tests.control.test_wheel import FakeLoop
from tests.net.helpers import Recorder


class FakeTransport:
    def __init__(self) -> None:
        self.calls: list[str] = []
        self.buffered = 0
        self.limits = (0, 0)

    def set_write_buffer_limits(self, high: int, low: int) -> None:
        self.limits = (high, low)

    def get_extra_info(self, name: str) -> object:
        return {"sockname": ("127.0.0.1", 1), "peername": ("::1", 2, 0, 0)}.get(name)

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *_: self.calls.append(name)


class Scene:
    def __init__(self, receiver: Recorder) -> None:
        self.loop = FakeLoop()
        self.unsent = 0
        self.resets = 0
        shared = LinkShared(Wheel(self.loop.now, self.loop.call_at), 10.0, 200, 50, lambda _: self.unsent, self.reset)
        self.receiver = receiver
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


class Steps(Recorder):
    """Uses as many bytes as the next step says, and keeps them."""

    def __init__(self, steps: list[int]) -> None:
        super().__init__()
        self.steps = steps
        self.offered: list[int] = []

    def bytes_received(self, data: memoryview) -> int:
        used = min(self.steps.pop(0) if self.steps else len(data), len(data))
        self.offered.append(len(data))
        self.data += data[:used]
        return used


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=20),
    st.lists(st.binary(min_size=1, max_size=300), max_size=20),
    st.lists(st.integers(0, 200), max_size=30),
    st.lists(st.integers(0, 200), max_size=30),
)
def test_two_links_on_one_scratch_lose_nothing_and_mix_nothing(
    a: list[bytes], b: list[bytes], takes_a: list[int], takes_b: list[int]
) -> None:
    one, other = Scene(Steps(takes_a)).made(), Scene(Steps(takes_b)).made()
    for n in range(max(len(a), len(b))):
        for scene, reads in ((one, a), (other, b)):
            if n < len(reads):
                scene.link.get_buffer(-1)  # a read that found nothing: loops ask for the buffer and do not always come back
                scene.read(reads[n])
    for scene, reads in ((one, a), (other, b)):
        stream = b"".join(reads)
        assert isinstance(scene.receiver, Steps)
        assert stream.startswith(bytes(scene.receiver.data))
        scene.receiver.steps.clear()
        scene.read(b"!")
        assert scene.receiver.data == stream + b"!"


@pytest.mark.parametrize("size", [REST_IN_SCRATCH_BYTES, REST_IN_SCRATCH_BYTES + 1, SCRATCH_BYTES + 5, 3_000_000])
def test_a_rest_of_any_size_is_kept_and_its_buffer_let_go_afterwards(size: int) -> None:
    receiver = Steps([0] * 1000)
    scene = Scene(receiver).made()
    stream = bytes(range(256)) * (size // 256 + 1)
    scene.read(stream[:size])
    assert receiver.offered[-1] == size
    receiver.steps = [size - 3]
    scene.read(b"z")
    assert receiver.data == stream[: size - 3]
    assert scene.link._aside is None, "what is left is small again"
    scene.read(b"y")
    assert receiver.data == stream[:size] + b"zy"


def test_a_large_rest_of_which_a_part_is_used_moves_to_the_front() -> None:
    receiver = Steps([0] * 1000)
    scene = Scene(receiver).made()
    stream = bytes(range(256)) * 4096
    scene.read(stream)
    receiver.steps = [100_003]
    scene.read(b"z")
    assert scene.link._aside is not None
    scene.read(b"y")
    assert receiver.data == stream + b"zy"


def test_a_receiver_that_never_uses_anything_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tcp, "REST_MAX_BYTES", 500_000)
    scene = Scene(Steps([0] * 1000)).made()
    scene.read(b"x" * 500_000)
    assert not scene.link.is_closing()
    scene.link.get_buffer(-1)
    scene.link.buffer_updated(1)
    assert isinstance(scene.link.error, ProtocolError)
    assert "abort" in scene.transport.calls


def test_the_scratch_belongs_to_a_thread() -> None:
    others: list[memoryview] = []
    thread = threading.Thread(target=lambda: others.append(scratch_of_this_thread()))
    thread.start()
    thread.join()
    assert scratch_of_this_thread() is scratch_of_this_thread()
    assert others[0] is not scratch_of_this_thread()


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
    assert scene.transport.calls == ["close"]


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
    scene.transport.buffered = 10
    scene.loop.advance(109.9)
    assert scene.transport.calls == ["close"]
    scene.loop.advance(111.0)
    assert scene.transport.calls == ["close", "abort"]


def test_the_close_after_an_end_of_stream_is_bounded_too() -> None:
    scene = Scene(Recorder()).made()
    scene.transport.buffered = 1000
    scene.link.eof_received()
    assert scene.receiver.calls == ["link_made", "eof_received"]
    assert scene.link.is_closing()
    scene.loop.advance(111.0)
    assert scene.transport.calls == ["close", "abort"]


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
