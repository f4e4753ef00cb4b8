"""Durations, sizes and rates: what reads, what is refused, and that writing reads back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.cli.values import format_duration, parse_duration, parse_rate, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("250ms", 0.25),
        ("5s", 5.0),
        ("2m", 120.0),
        ("1m30s", 90.0),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("0", 0.0),
        ("0s", 0.0),
        ("50us", 5e-5),
        ("1h", 3600.0),
        ("1d", 86400.0),
        (" 5S ", 5.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5 s", "s", "-5s", "5x", "5s!", "5sec", "1e3s", "nan", "inf", "９s x", "9" * 400 + "s"])
def test_what_is_not_a_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="250ms|too large"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("64k", 65536), ("2M", 2 << 20), ("1G", 1 << 30), ("64KiB", 65536), ("64kb", 65536), ("1.5k", 1536), ("0", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1k", "1x", "1.0001k", "9" * 400])
def test_what_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="size|bytes|too large"):
        parse_size(text)


@pytest.mark.parametrize(("text", "per_s"), [("500/s", 500.0), ("2k/s", 2000.0), ("30/m", 0.5), ("7200/h", 2.0), ("0.5/s", 0.5)])
def test_rates(text: str, per_s: float) -> None:
    assert parse_rate(text) == pytest.approx(per_s)


@pytest.mark.parametrize("text", ["", "500", "/s", "500/x", "0/s", "-1/s"])
def test_what_is_not_a_rate_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="500/s"):
        parse_rate(text)


@given(st.floats(min_value=1e-6, max_value=86_400))
def test_a_written_duration_reads_back(seconds: float) -> None:
    assert parse_duration(format_duration(seconds)) == pytest.approx(seconds, rel=0.006)
