"""What a receiver leaves: kept in the shared scratch or aside, offered again in front, bounded, and never mixed between links."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ProtocolError
from holdfast.net import rest
from holdfast.net.rest import LARGE_READ_BYTES, REST_IN_SCRATCH_BYTES, SCRATCH_BYTES, Offering, scratch_of_this_thread
from tests.net.helpers import Recorder, turns_until


class Bare(Offering):
    """The half alone: a link that reads what the test says."""

    def __init__(self, above: Recorder) -> None:
        super().__init__(scratch_of_this_thread(), "tcp://peer:1")
        self._receiver = self.above = above
        self.reads_on = self.discarded = self.expected_much = 0

    def read(self, data: bytes) -> None:
        """What a loop does with bytes from the kernel, in as many reads as the buffer makes it."""
        while data:
            buffer = self.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            data = data[size:]
            self.buffer_updated(size)

    def _read_on(self) -> None:
        self.reads_on += 1

    def _discard(self, nbytes: int) -> None:
        self.discarded += nbytes

    def _expect_much(self) -> None:
        self.expected_much += 1

    def _fail(self, error: Exception) -> None:
        self.error = error
        self._closing = True


class Steps(Recorder):
    """Uses as many bytes as the next step says, and keeps them."""

    def __init__(self, steps: list[int]) -> None:
        super().__init__()
        self.steps = steps
        self.offered: list[int] = []

    def bytes_received(self, data: memoryview | bytes) -> int:
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
    one, other = Bare(Steps(takes_a)), Bare(Steps(takes_b))
    for n in range(max(len(a), len(b))):
        for scene, reads in ((one, a), (other, b)):
            if n < len(reads):
                scene.get_buffer(-1)  # a read that found nothing: loops ask for the buffer and do not always come back
                scene.read(reads[n])
    for scene, reads in ((one, a), (other, b)):
        stream = b"".join(reads)
        assert isinstance(scene.above, Steps)
        assert stream.startswith(bytes(scene.above.data))
        scene.above.steps.clear()
        scene.read(b"!")
        assert scene.above.data == stream + b"!"


@pytest.mark.parametrize("size", [REST_IN_SCRATCH_BYTES, REST_IN_SCRATCH_BYTES + 1, SCRATCH_BYTES + 5, 3_000_000])
def test_a_rest_of_any_size_is_kept_and_its_buffer_let_go_afterwards(size: int) -> None:
    receiver = Steps([0] * 1000)
    scene = Bare(receiver)
    stream = bytes(range(256)) * (size // 256 + 1)
    scene.read(stream[:size])
    assert receiver.offered[-1] == size
    receiver.steps = [size - 3]
    scene.read(b"z")
    assert receiver.data == stream[: size - 3]
    assert scene._aside is None, "what is left is small again"
    scene.read(b"y")
    assert receiver.data == stream[:size] + b"zy"


def test_a_large_rest_of_which_a_part_is_used_moves_to_the_front() -> None:
    receiver = Steps([0] * 1000)
    scene = Bare(receiver)
    stream = bytes(range(256)) * 4096
    scene.read(stream)
    receiver.steps = [100_003]
    scene.read(b"z")
    assert scene._aside is not None
    scene.read(b"y")
    assert receiver.data == stream + b"zy"


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.booleans()), max_size=20),
    st.lists(st.integers(0, 200), max_size=30),
)
def test_reads_that_are_objects_and_reads_into_the_scratch_are_one_stream(reads: list[tuple[bytes, bool]], takes: list[int]) -> None:
    scene, other = Bare(Steps(takes)), Bare(Recorder())
    for data, is_object in reads:
        if is_object:
            scene.data_received(data)
        else:
            scene.read(data)
        other.read(b"\xdd" * 600)
    assert isinstance(scene.above, Steps)
    assert b"".join(data for data, _ in reads).startswith(bytes(scene.above.data))
    scene.above.steps.clear()
    scene.data_received(b"!")
    assert scene.above.data == b"".join(data for data, _ in reads) + b"!"
    assert (scene._rest, scene._aside) == (b"", None)


@pytest.mark.parametrize("left", [1, REST_IN_SCRATCH_BYTES, REST_IN_SCRATCH_BYTES + 1, SCRATCH_BYTES])
def test_an_object_behind_what_was_left_finds_room_however_large_both_are(left: int) -> None:
    scene = Bare(Steps([0, 0]))
    scene.data_received(b"a" * left)
    scene.data_received(b"b" * SCRATCH_BYTES)
    scene.data_received(b"c")
    assert scene.above.data == b"a" * left + b"b" * SCRATCH_BYTES + b"c"


@pytest.mark.parametrize("left", [0, 1])
def test_large_reads_are_expected_to_go_on_and_small_ones_are_not(left: int) -> None:
    scene = Bare(Steps([2 - left]))
    scene.data_received(bytes(2))
    scene.data_received(bytes(LARGE_READ_BYTES - 1))
    assert scene.expected_much == 0
    scene.data_received(bytes(LARGE_READ_BYTES))
    assert scene.expected_much == 1
    if left:
        scene.above.steps.append(0)  # type: ignore[attr-defined]
    scene.data_received(bytes(2))
    scene.data_received(bytes(LARGE_READ_BYTES))
    assert scene.expected_much == 2


def test_an_object_that_comes_when_the_link_is_closing_is_not_offered() -> None:
    scene = Bare(Recorder())
    scene._closing = True
    scene.data_received(b"abc")
    assert (scene.above.calls, scene.discarded) == ([], 3)


def test_an_object_that_comes_after_the_close_is_discarded_and_one_under_way_when_reading_was_paused_is_kept() -> None:
    scene = Bare(Recorder())
    scene._paused = True
    scene.data_received(b"abc")
    assert (scene.above.data, scene._rest) == (b"", b"abc")
    scene._closing = True
    scene.data_received(bytes(SCRATCH_BYTES))
    assert (scene.above.data, scene.discarded, scene.expected_much) == (b"", SCRATCH_BYTES, 0)


@pytest.mark.parametrize("used", [-1, 4])
def test_a_receiver_that_used_what_there_is_not_ends_its_link(used: int) -> None:
    class Liar(Recorder):
        def bytes_received(self, data: memoryview | bytes) -> int:
            return used

    scene = Bare(Liar())
    scene.data_received(b"abc")
    assert isinstance(scene.error, ValueError)


def test_a_receiver_that_never_uses_anything_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rest, "REST_MAX_BYTES", 500_000)
    scene = Bare(Steps([0] * 1000))
    scene.read(b"x" * 500_000)
    assert scene.error is None
    scene.get_buffer(-1)
    scene.buffer_updated(1)
    assert isinstance(scene.error, ProtocolError)


def test_the_scratch_belongs_to_a_thread() -> None:
    others: list[memoryview] = []
    thread = threading.Thread(target=lambda: others.append(scratch_of_this_thread()))
    thread.start()
    thread.join()
    assert scratch_of_this_thread() is scratch_of_this_thread()
    assert others[0] is not scratch_of_this_thread()


def test_each_layer_has_a_scratch_of_its_own() -> None:
    assert scratch_of_this_thread("tls") is not scratch_of_this_thread()


def test_what_a_receiver_raises_ends_this_link_and_goes_no_further() -> None:
    class Failing(Recorder):
        def bytes_received(self, data: memoryview | bytes) -> int:
            raise RuntimeError("not today")

    for bring in (Bare.read, Bare.data_received):
        scene = Bare(Failing())
        bring(scene, b"x")
        assert isinstance(scene.error, RuntimeError)


async def test_what_was_left_is_offered_before_more_is_read() -> None:
    receiver = Steps([0])
    scene = Bare(receiver)
    scene.read(b"abc")
    scene._paused = True
    scene.read(b"d")  # was under way
    assert receiver.data == b""
    scene._resume_reading()
    assert (receiver.data, scene.reads_on) == (b"", 0)
    await turns_until(lambda: scene.reads_on)
    assert receiver.data == b"abcd"
    scene._paused = True
    scene._resume_reading()
    assert scene.reads_on == 2, "with nothing left there is nothing to wait for"
