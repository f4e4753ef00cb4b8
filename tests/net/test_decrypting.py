"""The short way of a small read, and that nobody can tell it from the long one."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ssl
import weakref
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from holdfast.net.decrypting import SHORT_READ_BYTES
from holdfast.net.records import DATA_PER_IDLE
from holdfast.net.tls import TlsLink
from tests.net.helpers import Recorder
from tests.net.papers import HOLDFAST, papers
from tests.net.test_tls import SIDES
from tests.net.tlsbench import Bench


class LongWay(TlsLink):
    """Takes every read the long way."""

    __slots__ = ()
    bytes_received = TlsLink._received


class Counting(TlsLink):
    """Counts the reads that go the long way."""

    __slots__ = ()
    long_reads = 0

    def _received(self, data: memoryview | bytes) -> int:
        Counting.long_reads += 1
        return super()._received(data)


class Slow(Recorder):
    """Uses items of `unit` bytes, and closes its link after so many bytes."""

    def __init__(self, unit: int, closes_after: int) -> None:
        super().__init__()
        self.unit, self.closes_after = unit, closes_after

    def bytes_received(self, data: memoryview | bytes) -> int:
        used = len(data) - len(data) % self.unit
        self.data += data[:used]
        if len(self.data) >= self.closes_after:
            self.link.close()
        return used


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("records"), st.lists(st.integers(1, 3000), min_size=1, max_size=6)),
        st.tuples(st.sampled_from(["pause", "resume", "cut", "spoil", "goodbye", "write"]), st.just([])),
    ),
    max_size=12,
)


@pytest.mark.parametrize("ours", SIDES)
@given(steps=STEPS, unit=st.sampled_from([1, 1, 7]), closes_after=st.sampled_from([1 << 30, 5000]))
@example(steps=[("records", [5]), ("records", [5, 6]), ("goodbye", [])], unit=1, closes_after=1 << 30)
@example(steps=[("records", [5]), ("pause", []), ("records", [5]), ("resume", []), ("records", [9, 9])], unit=7, closes_after=1 << 30)
@example(steps=[("records", [5]), ("spoil", []), ("records", [5, 5])], unit=1, closes_after=1 << 30)
@example(steps=[("records", [5]), ("records", [9]), ("records", [5])], unit=1, closes_after=10)
@example(steps=[("records", [5]), ("spoil", []), ("records", [9, 5])], unit=1, closes_after=10)
@example(steps=[("records", [5]), ("records", [5, 5]), ("records", [3, 8])], unit=7, closes_after=1 << 30)
def test_both_ways_understand_every_read_alike(ours: str, steps: list[tuple[str, list[int]]], unit: int, closes_after: int) -> None:
    short, long = (asyncio.run(session(kind, ours, steps, Slow(unit, closes_after))) for kind in (TlsLink, LongWay))
    assert short == long


async def session(kind: type[TlsLink], ours: str, steps: list[tuple[str, list[int]]], receiver: Recorder) -> tuple[object, ...]:
    """Go through the steps with such a link; return all that can be seen of it from above, from below, and at the other end."""
    bench = Bench(receiver, ours=ours).shake()
    bench.link.__class__ = kind
    cut = 0  # so many bytes of the next delivery come later
    spoiled = False
    for step, sizes in steps:
        if step == "records":
            data = b"".join(written(bench, bytes([size % 251]) * size) for size in sizes)
            if spoiled:
                data = data[:-1] + bytes([data[-1] ^ 1])
            first = len(data) - min(cut, len(data) - 1)
            bench.deliver(data[:first])
            if first < len(data):
                bench.deliver(data[first:])
            cut, spoiled = 0, False
        elif step == "goodbye":
            data = written(bench, b"the last")
            with contextlib.suppress(ssl.SSLWantReadError):
                bench.sslobj.unwrap()
            bench.deliver(data + bench.theirs())
            break  # their end can write no more
        elif step == "write":
            bench.link.write(b"ours")
        elif step == "cut":
            cut = 9
        elif step == "spoil":
            spoiled = True
        elif step == "pause":
            bench.link.pause_reading()
        else:
            bench.link.resume_reading()
            await asyncio.sleep(0)  # what was left is offered again from the loop
    link = bench.link
    seen = bytes(receiver.data), receiver.calls, str(link.error), link.is_closing(), link._idle, link._ending, bytes(link._rest)
    return *seen, bench.below.calls, len(bench.below.out), len(bench.rest)


def written(bench: Bench, data: bytes) -> bytes:
    bench.sslobj.write(data)
    return bench.theirs()


@pytest.mark.parametrize("count", [1, 20])
def test_records_without_data_are_counted_on_the_short_way_too(count: int) -> None:
    context = papers().plain_server(*HOLDFAST)
    context.num_tickets = count

    def seen(kind: type[TlsLink]) -> tuple[object, ...]:
        bench = Bench(ours="client", theirs=context)

        def deliver(data: bytes) -> None:
            if bench.receiver.calls:  # we are open, so these are the tickets
                bench.link.__class__, bench.link._is_heard = kind, True
            bench.deliver(data)

        bench.shake(deliver=deliver)
        return bench.link._idle, bench.receiver.data, bench.below.calls

    assert seen(TlsLink) == seen(LongWay) == (count * DATA_PER_IDLE, b"", [])


@pytest.mark.parametrize("ours", SIDES)
def test_small_whole_reads_take_the_short_way_once_the_peer_was_heard(ours: str) -> None:
    bench = Bench(ours=ours).shake()
    bench.link.__class__ = Counting
    bench.link._idle = 0  # what a server's tickets cost a client is paid for by the first few reads with data

    def long_reads(deliver: Callable[[], None]) -> int:
        Counting.long_reads = 0
        deliver()
        return Counting.long_reads

    assert long_reads(lambda: bench.deliver(written(bench, b"the first"))) == 1
    assert long_reads(lambda: bench.deliver(written(bench, b"small") + written(bench, b"again"))) == 0
    assert long_reads(lambda: bench.deliver(written(bench, b"x" * SHORT_READ_BYTES))) == 1
    assert bench.receiver.data == b"the first" + b"small" + b"again" + b"x" * SHORT_READ_BYTES


@pytest.mark.parametrize("kind", [TlsLink, LongWay])
def test_a_broken_record_leaves_no_circle_that_keeps_openssl_alive(kind: type[TlsLink]) -> None:
    bench = Bench().shake()
    bench.link.__class__ = kind
    bench.deliver(written(bench, b"the first"))
    sslobj = weakref.ref(bench.link._sslobj)  # type: ignore[arg-type]
    broken = written(bench, b"the second")
    gc.collect()
    gc.disable()
    try:
        bench.deliver(broken[:-1] + bytes([broken[-1] ^ 1]))
        bench.lose()
        assert isinstance(bench.receiver.error, ConnectionAbortedError)
        assert sslobj() is None, "its memory is free at once, without a collector"
    finally:
        gc.enable()
