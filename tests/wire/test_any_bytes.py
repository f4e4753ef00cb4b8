"""Any bytes at all, to both roles, in any state: no exception, nothing after an error, the same however they are cut."""

from __future__ import annotations

from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import given

from holdfast.wire import Connection, Errored, frames
from holdfast.wire.machine import Role
from holdfast.wire.settings import encode_settings
from tests.wire.helpers import SMALL, describe, feed, frame, machine, with_calls

ROLES: list[Role] = ["client", "server"]


def busy(role: Role) -> Connection:
    """An open machine with a call in each state that outlives a frame."""
    connection = with_calls(role)
    if role == "server":
        connection.send_item(next(iter(connection.calls.values())), bytes(5000), True)
    connection.events.clear()
    connection.take_output(1000)
    return connection


payloads = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 1030).map(bytes),
    st.builds(lambda total, rest: total.to_bytes(4) + rest, st.integers(0, 2**32 - 1) | st.integers(0, 200), st.binary(max_size=30)),
    st.builds(
        lambda attempt, length, rest: bytes(12) + bytes([attempt, length]) + rest,
        st.integers(0, 4),
        st.integers(0, 60),
        st.binary(max_size=80),
    ),
)
likely = st.builds(
    lambda kind, flags, call_id, payload: frame(kind, flags, call_id, payload),
    st.sampled_from([*frames.NAMES, 0x30]),
    st.sampled_from([0, 0, 0, 1, 1, 2, 3, 16, 17, 31, 64]),
    st.sampled_from([0, 1, 2, 3, 4, 5, 2**53, 2**64 - 1]),
    payloads,
)
anything = st.lists(st.one_of(likely, likely, likely, st.binary(max_size=30)), max_size=12).map(b"".join)

strange = st.one_of(st.binary(max_size=60), anything, anything.map(lambda rest: frames.PREFACE + rest))


def check(make: Callable[[], Connection], data: bytes, cuts: list[int]) -> None:
    whole, cut = make(), make()
    rest = feed(whole, data)
    left = bytearray()
    start = 0
    for end in [*sorted(cuts), len(data)]:
        left += data[start:end]
        start = max(start, end)
        del left[: cut.receive_data(memoryview(bytes(left)))]
    assert bytes(left) == rest
    assert [describe(event) for event in cut.events] == [describe(event) for event in whole.events]
    assert cut.state == whole.state
    output = whole.take_output(1 << 20)
    assert cut.take_output(1 << 20) == output
    errors = [event for event in whole.events if isinstance(event, Errored)]
    assert len(errors) <= 1
    if errors:
        assert whole.events[-1] is errors[0]
        assert rest == b""
        assert b"\x23" in output or b"holdfast" in output or output == b""
    assert len(rest) < SMALL.frame_max_bytes + frames.HEADER_BYTES or whole.state == "OPENING"
    assert len(output) <= 30 * (len(data) + 1) + 20_000
    whole.lost()
    assert whole.inbox.budget.used_bytes == 0


@pytest.mark.parametrize("role", ROLES)
@given(data=strange, cuts=st.lists(st.integers(0, 200)))
def test_any_bytes_to_a_stranger(role: Role, data: bytes, cuts: list[int]) -> None:
    check(lambda: machine(role), data, cuts)


@pytest.mark.parametrize("role", ROLES)
@given(rest=anything, cuts=st.lists(st.integers(0, 400)))
def test_any_bytes_after_a_good_beginning(role: Role, rest: bytes, cuts: list[int]) -> None:
    kind = frames.WELCOME if role == "client" else frames.HELLO
    check(lambda: machine(role), frames.PREFACE + frame(kind, 0, 0, encode_settings(SMALL)) + rest, cuts)


@pytest.mark.parametrize("role", ROLES)
@given(data=anything, cuts=st.lists(st.integers(0, 400)))
def test_any_bytes_to_an_open_connection(role: Role, data: bytes, cuts: list[int]) -> None:
    check(lambda: busy(role), data, cuts)


@given(payload=st.binary(max_size=300))
def test_any_settings(payload: bytes) -> None:
    check(lambda: machine("server"), frames.PREFACE + frame(frames.HELLO, 0, 0, payload), [])
