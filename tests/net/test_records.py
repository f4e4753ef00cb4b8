"""Where TLS records end, however the bytes were cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.net.records import PIECE_MAX_BYTES, RECORD_MAX_BYTES, count_data_records, count_records, end_of_records, fatal_alert


def record(size: int, kind: int = 0x17) -> bytes:
    return bytes((kind, 3, 3)) + size.to_bytes(2) + b"x" * size


@pytest.mark.parametrize(
    ("data", "start", "end"),
    [
        (b"", 0, 0),
        (b"\x17\x03\x03", 0, 0),
        (record(10), 0, 15),
        (record(10)[:-1], 0, 0),
        (record(10) + record(20)[:-1], 0, 15),
        (record(10) + record(20), 0, 40),
        (record(10) + record(20), 15, 40),
        (record(9000) + record(9000), 0, 9005),
        (record(RECORD_MAX_BYTES), 0, RECORD_MAX_BYTES + 5),
        (record(0), 0, 5),
        (b"\x17\x03\x03\xff\xff1234", 0, 9),
        (record(10) + b"\x17\x03\x03\xff\xff1234", 0, 15),
        (b"GET / HTTP/1.1", 0, 14),
        (b"\x17\x02\x03\x00\x00", 0, 5),
    ],
)
def test_where_whole_records_end(data: bytes, start: int, end: int) -> None:
    assert end_of_records(memoryview(data), start) == end


@given(st.binary(max_size=200), st.integers(0, 200))
def test_any_bytes_have_an_end_that_is_bounded(data: bytes, start: int) -> None:
    start = min(start, len(data))
    assert start <= end_of_records(memoryview(data), start) <= min(len(data), start + PIECE_MAX_BYTES)


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=12), st.integers(0, 100))
def test_pieces_of_whole_records_are_all_of_them_in_order(sizes: list[int], missing: int) -> None:
    data = b"".join(map(record, sizes))
    cut = memoryview(data)[: max(0, len(data) - missing)]
    ends, at = [], 0
    while (end := end_of_records(cut, at)) != at:
        assert end - at <= PIECE_MAX_BYTES
        ends.append(end)
        at = end
    borders = [sum(5 + size for size in sizes[:n]) for n in range(len(sizes) + 1)]
    assert all(end in borders for end in ends)
    assert at == max(border for border in borders if border <= len(cut))


@pytest.mark.parametrize(
    ("data", "count"),
    [
        (b"", 0),
        (record(10), 1),
        (record(10) + record(0) + record(RECORD_MAX_BYTES), 3),
        (record(10) + record(10)[:-1], 0),
        (record(10) + b"\x17\x03\x03\x00", 0),
        (record(10) + record(2, 0x15), 0),
        (record(10) + b"\x17\x02\x03\x00\x00", 0),
        (record(RECORD_MAX_BYTES + 1), 0),
    ],
)
def test_how_many_records_of_data_a_read_is(data: bytes, count: int) -> None:
    assert count_data_records(data) == count


def test_an_alert_in_the_clear() -> None:
    assert fatal_alert(40) == b"\x15\x03\x03\x00\x02\x02\x28"


@given(st.lists(st.integers(0, 300), max_size=20), st.integers(0, 20))
def test_whole_records_are_counted(sizes: list[int], first: int) -> None:
    data = memoryview(b"".join(map(record, sizes)))
    start = sum(size + 5 for size in sizes[:first])
    end = end_of_records(data, start)
    assert end == len(data)
    assert count_records(data, start, end) == len(sizes[first:])
