"""Records that travel back: they come as they went, with times of their own, and never more than there is room for."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.handler import AttemptRecord, CallRecord
from holdfast.rpc.hops import HOPS_MAX, decode_hops, encode_hops
from holdfast.wire.status import HOPS_MAX_BYTES


def record(number: int = 1, began_at: float = 110.0) -> CallRecord:
    attempts = [AttemptRecord("original", 0.0, "tcp://10.0.0.1:7000", ended_s=0.25, outcome="ok")]
    return CallRecord("stock.left", number, began_at, 2.0, attempts, code="ok", duration_s=0.25)


def test_they_come_as_they_went_with_times_since_the_call_that_led_to_them() -> None:
    (found,) = decode_hops(encode_hops([record()], 100.0, 4096))
    assert found == msgspec.structs.replace(record(), began_at=10.0)


def test_a_hop_has_hops() -> None:
    outer = record()
    outer.hops = [record(2)]
    (found,) = decode_hops(encode_hops([outer], 0.0, 4096))
    assert found.hops == [record(2)]


@pytest.mark.parametrize("room_bytes", [0, 100, 1000, 4096, 1 << 20])
def test_there_are_as_many_of_the_first_as_there_is_room_for(room_bytes: int) -> None:
    records = [record(number) for number in range(100)]
    encoded = encode_hops(records, 0.0, room_bytes)
    found = decode_hops(encoded)
    assert len(encoded) <= min(room_bytes, HOPS_MAX_BYTES)
    assert found == records[: len(found)]
    assert len(found) <= HOPS_MAX
    if room_bytes >= 1000:
        assert found


@pytest.mark.parametrize(
    "payload", [b"", b"\xc1", b"\x91\x80", b"\x80", b"\x91" * 2000, b"\xa3\xff\xff\xff", encode_hops([record()], 0.0, 4096)[:-3]]
)
def test_what_cannot_be_read_is_nothing(payload: bytes) -> None:
    assert decode_hops(payload) == []


@pytest.mark.parametrize("odd", ["no Unicode \udcff", object()])
def test_what_cannot_be_written_is_nothing(odd: object) -> None:
    told = record()
    told.attempts[0].message = odd  # type: ignore[assignment]
    assert encode_hops([record(), told], 0.0, 4096) == b""
