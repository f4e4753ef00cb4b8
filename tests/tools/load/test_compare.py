"""Old beside new: the change in per cent, and when there is none to be had."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.tools.load.compare import Row, comparison_lines, differences, rows
from holdfast.tools.load.document import Document, Generator, Latency

OLD = Document(
    target="shop.price",
    arguments=("sku=A",),
    asked_rate_per_s=1000.0,
    arrivals="constant",
    sent=100,
    done=100,
    errors={"aborted": 2},
    rate_per_s=1000.0,
    latency_ms=Latency(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.5),
)


def new(**changed: Any) -> Document:
    return msgspec.structs.replace(OLD, **changed)


def test_figures_stand_side_by_side_with_their_change() -> None:
    found = {row.name: (row.old, row.new, row.change) for row in rows(OLD, new(rate_per_s=1100.0, latency_ms=Latency(1.0, 2.0, 3.0, 2.0)))}
    assert found["answered/s"] == (1000.0, 1100.0, "+10.0 %")
    assert found["p50 ms"] == (1.0, 1.0, "+0.0 %")
    assert found["p99 ms"] == (4.0, 2.0, "-50.0 %")
    assert found["errors"] == (2, 2, "+0.0 %")
    assert found["not sent"] == (0, 0, "")


def test_there_is_no_change_in_per_cent_from_nothing() -> None:
    assert (Row("x", 0, 5).change, Row("x", 0, 0).change) == ("new", "")


def test_results_measured_alike_can_be_compared() -> None:
    assert differences(OLD, new(rate_per_s=1.0)) == []
    assert "not comparable" not in "\n".join(comparison_lines(OLD, new()))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"target": "shop.place"}, "method shop.price before, shop.place now"),
        ({"arguments": ()}, "arguments sku=A before, none now"),
        ({"asked_rate_per_s": 2000.0}, "rate 1,000/s before, 2,000/s now"),
        ({"arrivals": "poisson"}, "arrivals constant before, poisson now"),
        ({"mode": "closed", "asked_rate_per_s": None, "arrivals": None, "concurrency": 4}, "mode open before, closed now"),
        ({"connections": 2}, "connections 1 before, 2 now"),
        ({"processes": 2}, "processes 1 before, 2 now"),
        ({"generator": Generator(True, "x", 0, 0.0, 0.0, ())}, "the generator was the limit in the new one"),
        ({"interrupted": True}, "the new one was interrupted"),
    ],
)
def test_what_was_measured_otherwise_is_said(changed: dict[str, Any], said: str) -> None:
    assert differences(OLD, new(**changed)) == [said]
    assert comparison_lines(OLD, new(**changed))[-1] == f"warning     these two are not comparable: {said}"


def test_the_lines_read_as_a_table() -> None:
    lines = comparison_lines(OLD, new(latency_ms=Latency(1.25, 2.0, 3.0, 4.0, 5.0, 6.0, 1.5)))
    assert lines[0].split() == ["compare", "old", "new", "change"]
    assert lines[2].split() == ["p50", "ms", "1", "1.25", "+25.0", "%"]
