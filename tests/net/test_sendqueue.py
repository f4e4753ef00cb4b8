"""The queue in front of a full socket: in order, within both bounds, each mark told once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from holdfast.net.sendqueue import PAUSE_PART, RESUME_PART, SendQueue

MAX_BYTES, MAX_DATAGRAMS = 200, 16
moves = st.lists(st.one_of(st.binary(max_size=60), st.none()), max_size=200)


@given(moves)
def test_it_is_a_queue_that_never_outgrows_its_bounds(steps: list[bytes | None]) -> None:
    queue, model, taken = SendQueue(MAX_BYTES, MAX_DATAGRAMS), list[bytes](), 0
    for data in steps:
        if data is not None:
            fits = len(model) < MAX_DATAGRAMS and sum(map(len, model)) + len(data) <= MAX_BYTES
            assert queue.push(data, ("h", taken)) is fits
            if fits:
                model.append(data)
        elif model:
            assert queue.first()[0] == model.pop(0)
            queue.pop()
            taken += 1
        assert (len(queue), queue.waiting_bytes) == (len(model), sum(map(len, model)))
    assert queue.clear() == len(model)
    assert (len(queue), queue.waiting_bytes) == (0, 0)


@given(moves)
def test_the_marks_take_turns(steps: list[bytes | None]) -> None:
    queue, paused = SendQueue(MAX_BYTES, MAX_DATAGRAMS), False
    for data in steps:
        if data is not None:
            queue.push(data, None)
        elif len(queue):
            queue.pop()
        high = len(queue) * PAUSE_PART > MAX_DATAGRAMS or queue.waiting_bytes * PAUSE_PART > MAX_BYTES
        low = len(queue) * RESUME_PART <= MAX_DATAGRAMS and queue.waiting_bytes * RESUME_PART <= MAX_BYTES
        assert queue.must_pause() is (high and not paused)
        paused = paused or high
        assert queue.may_resume() is (low and paused)
        paused = paused and not low


def test_empty_datagrams_are_bounded_by_their_number() -> None:
    queue = SendQueue(MAX_BYTES, MAX_DATAGRAMS)
    assert sum(queue.push(b"", None) for _ in range(1000)) == MAX_DATAGRAMS
