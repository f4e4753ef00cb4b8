"""Check sums: every changed bit is found, and with them everything is as it is without."""

from __future__ import annotations

import tracemalloc
import zlib
from random import Random

import msgspec
import pytest

from holdfast.wire import CallState, Connection, frames
from holdfast.wire.checksum import seal, unseal
from holdfast.wire.machine import Role
from tests.wire.helpers import SMALL, Pair, call_frame, describe, error_of, feed, frame, names, opened, parse

CHECKED = msgspec.structs.replace(SMALL, features=(frames.CHECKED,))
TWO = frame(frames.PING, 0, 0, b"12345678") + call_frame(1, body=b"x" * 100)


def checked(role: Role) -> Connection:
    connection = opened(role, CHECKED, CHECKED)
    assert connection.checked
    return connection


def test_each_frame_is_followed_by_the_crc_of_zlib() -> None:
    ping = frame(frames.PING, 0, 0, b"12345678")
    assert seal(TWO)[: len(ping) + 4] == ping + zlib.crc32(ping).to_bytes(4)
    assert len(seal(TWO)) == len(TWO) + 8
    assert unseal(memoryview(seal(TWO)), 1024) == (TWO, len(TWO) + 8, False)


@pytest.mark.parametrize("ours", [True, False])
@pytest.mark.parametrize("theirs", [True, False])
def test_they_are_used_when_both_name_them(ours: bool, theirs: bool) -> None:
    pair = Pair(CHECKED if ours else SMALL, CHECKED if theirs else SMALL)
    assert pair.client.checked == pair.server.checked == (ours and theirs)
    call = CallState()
    pair.client.open_call(call, b"shop.place", b"a" * 3000, True, 0, 1)
    pair.pump()
    [incoming] = pair.server.calls.values()
    pair.server.send_reply(incoming, b"b" * 3000, True)
    pair.pump()
    assert names(pair.client_events) == ["Replied"]


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_any_cut_gives_the_same_events(step: int) -> None:
    whole, split = checked("server"), checked("server")
    assert feed(whole, seal(TWO)) == feed(split, seal(TWO), step) == b""
    assert [describe(e) for e in split.events] == [describe(e) for e in whole.events]
    assert names(split.events) == ["Called"]
    assert parse(unseal(memoryview(split.take_output(1 << 20)), 1024)[0]) == [(frames.PONG, 0, 0, b"12345678")]


def test_every_changed_bit_is_an_error_or_keeps_the_frame_waiting() -> None:
    sealed = seal(call_frame(1, body=b"12345"))
    for bit in range(len(sealed) * 8):
        broken = bytearray(sealed)
        broken[bit // 8] ^= 1 << bit % 8
        connection = checked("server")
        feed(connection, bytes(broken) + seal(TWO))
        assert "Called" not in names(connection.events), bit
        if connection.state != "ERROR":
            assert bit < 32, "only a changed length may wait for more"
            continue
        message = error_of(connection)
        assert "check sum is wrong" in message or "frame of" in message
        sound, _, wrong = unseal(memoryview(connection.take_output(1 << 20)), 1024)
        [(kind, _, _, payload)] = parse(sound)
        assert (kind, wrong) == (frames.GOAWAY, False)
        assert payload[8] in (frames.CHECKSUM, frames.TOO_LARGE)


def test_frames_in_front_of_a_broken_one_count() -> None:
    connection = checked("server")
    feed(connection, seal(TWO) + seal(call_frame(2))[:-1] + b"\x00")
    assert names(connection.events) == ["Called", "Errored"]
    assert feed(connection, seal(call_frame(3))) == b""
    assert names(connection.events) == ["Called", "Errored"]


def test_nothing_of_the_handshake_has_one() -> None:
    client = Connection("client", CHECKED, budget=opened("client").inbox.budget)
    hello = client.take_output(1 << 20)
    server = Connection("server", CHECKED, budget=client.inbox.budget)
    assert feed(server, hello) == b""
    server.send_welcome(CHECKED)
    server.send_ping(b"12345678")
    said = server.take_output(1 << 20)
    ping = frame(frames.PING, 0, 0, b"12345678")
    assert said.endswith(seal(ping))
    assert parse(said.removesuffix(seal(ping)))[0][0] == frames.WELCOME
    assert feed(client, said) == b""
    assert client.take_output(1 << 20) == seal(frame(frames.PONG, 0, 0, b"12345678"))


def test_tiny_frames_take_no_more_memory_than_they_are() -> None:
    sealed = memoryview(seal(frame(0x7F, 0, 0) * 10_000))
    tracemalloc.start()
    try:
        sound, used, broken = unseal(sealed, 1024)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(sound), used, broken) == (140_000, len(sealed), False)
    assert peak < 3 * len(sealed)


def test_random_changes_never_get_through() -> None:
    rng = Random(7)
    sealed = seal(b"".join(call_frame(n, body=rng.randbytes(40)) for n in range(1, 5)))
    for _ in range(300):
        broken = bytearray(sealed)
        for _ in range(rng.randrange(1, 4)):
            broken[rng.randrange(len(broken))] ^= rng.randrange(1, 256)
        connection = checked("server")
        feed(connection, bytes(broken))
        for event in connection.events:
            if type(event).__name__ == "Called":
                call = event.call  # type: ignore[attr-defined]
                assert seal(call_frame(call.id, body=call.body)) in sealed
