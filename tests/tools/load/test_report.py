"""How a result reads, and that no warning stands only in the JSON."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from holdfast.tools.load.document import Bucket, Document, Expected, Generator, Latency, SearchDocument, StepResult, search_step
from holdfast.tools.load.report import edge_above, histogram_lines, progress_line, result_lines, search_line, search_lines
from holdfast.tools.load.run import Progress
from holdfast.tools.load.tally import Slot
from tests.tools.load.helpers import histogram

DOCUMENT = Document(
    target="shop.price",
    asked_rate_per_s=5000.0,
    arrivals="constant",
    connections=16,
    processes=2,
    duration_s=20.0,
    elapsed_s=20.0,
    sent=99_960,
    done=99_960,
    ok=99_951,
    errors={"unavailable": 9},
    error_messages={"unavailable": "the connection was lost"},
    rate_per_s=4997.55,
    latency_ms=Latency(0.9, 1.6, 2.1, 6.8, 14.2, 31.0, 1.0),
    histogram=(Bucket(0.5, 4998), Bucket(1.0, 60_970), Bucket(2.0, 26_988), Bucket(31.0, 7004)),
    expectations=(Expected("p99<20ms", True, "6.80 ms"), Expected("errors=0", False, "9")),
)


def changed(**values: Any) -> Document:
    return msgspec.structs.replace(DOCUMENT, **values)


def test_a_result_as_a_whole() -> None:
    assert result_lines(DOCUMENT) == [
        "rate        5,000/s asked, 4,998/s sent, 4,998/s answered   20.0 s, 16 connections, 2 processes, open loop",
        "latency     p50 0.900  p90 1.60  p95 2.10  p99 6.80  p99.9 14.2  max 31.0 ms   (from the planned send time)".replace(
            "0.900", "0.90"
        ),
        "status      ok 99,951 · unavailable 9",
        "            unavailable: the connection was lost",
        "   ≤ 0.5 ms |###                           |    5 %",
        "     ≤ 1 ms |##############################|   61 %",
        "     ≤ 2 ms |##############                |   27 %",
        "     ≤ 5 ms |                              |    0 %",
        "    ≤ 10 ms |                              |    0 %",
        "    ≤ 20 ms |                              |    0 %",
        "    ≤ 50 ms |####                          |    7 %",
        "expect      p99<20ms  PASS (6.80 ms)",
        "            errors=0  FAIL (9)",
    ]


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"not_sent": 12}, "warning     12 calls were due and not sent, because too many were open (--max-open)"),
        ({"unfinished": 3}, "warning     3 calls had not ended when the run gave up"),
        ({"interrupted": True, "elapsed_s": 4.2, "unfinished": 3}, "interrupted after 4.2 of 20 s; 3 calls were still open"),
        ({"generator": Generator(True, "it was tired", 0, 0, 0, ())}, "warning     the generator was the limit: it was tired"),
        (
            {"processes_lost": ("client process 1 of 2 was killed by SIGKILL",)},
            "warning     client process 1 of 2 was killed by SIGKILL; its",
        ),
    ],
)
def test_whatever_makes_figures_worth_less_is_said(values: dict[str, Any], line: str) -> None:
    assert not any(each.startswith(("warning", "interrupted")) for each in result_lines(DOCUMENT))
    assert any(each.startswith(line) for each in result_lines(changed(**values)))


@pytest.mark.parametrize(("share", "words"), [(0.95, "try more --processes"), (0.2, "leave it one, or measure from another machine")])
def test_the_advice_depends_on_whether_the_client_was_at_work_or_waiting(share: float, words: str) -> None:
    lines = result_lines(changed(generator=Generator(True, "late", 0, 0, 0, (0.1, share))))
    assert any(words in line for line in lines)


def test_closed_loop_streams_and_mixes_have_their_own_words() -> None:
    closed = result_lines(changed(mode="closed", concurrency=64, asked_rate_per_s=None, arrivals=None, connections=1, processes=1))
    assert closed[0].endswith("1 connection, 1 process, closed loop, 64 at once")
    assert "planned" not in closed[1]
    stream = result_lines(changed(first_item_ms=Latency(0.5, 0.6, 0.7, 0.8, 0.9, 1.0)))
    assert stream[2] == "first item  p50 0.50  p90 0.60  p95 0.70  p99 0.80  p99.9 0.90  max 1.00 ms"
    steps = (StepResult("look", 9, 9, {}, Latency(0.5)), StepResult("buy", 2, 1, {"aborted": 1}, Latency(1.5, p99=2.0)))
    mix = [line for line in result_lines(changed(steps=steps)) if "p50" in line][1:]
    assert mix == ["mix         look  p50 0.50  p99 0.000 ms   ok 9", "            buy   p50 1.50  p99 2.00 ms   ok 1 · aborted 1"]


def test_nothing_answered_reads_well() -> None:
    lines = result_lines(changed(ok=0, histogram=(), expectations=(), latency_ms=Latency()))
    assert lines[1] == "latency     no call was answered"
    assert not any("|" in line for line in lines)


def test_a_histogram_has_a_dozen_rows_at_most_and_every_call() -> None:
    lines = histogram_lines([Bucket(10.0**power, 10) for power in range(-3, 5)])
    assert len(lines) == 12
    assert lines[-1].split("|")[0].strip() == "≤ 10,000 ms"
    assert sum(int(line.rpartition("|")[2].split()[0]) for line in lines) in range(98, 103)
    assert {len(line.split("|")[0]) for line in lines} == {len(lines[0].split("|")[0])}


@pytest.mark.parametrize(
    ("value", "edge"), [(0.1, 0.1), (0.11, 0.2), (0.21, 0.5), (3, 5), (5.0000001, 10), (7, 10), (1000, 1000), (0, 1e-6)]
)
def test_edges_are_one_two_or_five(value: float, edge: float) -> None:
    assert edge_above(value) == pytest.approx(edge)


def test_one_line_of_progress() -> None:
    second = Slot(4998, 0, histogram(0.001).snapshot())
    assert progress_line(Progress(3.0, 15000, 0, 7, second), 1.0, 10.0) == "  3 of 10 s   4,998/s   p50 1.00  p99 1.00 ms   7 open"
    trouble = Slot(1, 2, second.latency)
    assert progress_line(Progress(3.0, 15000, 4, 7, trouble), 1.0, 10.0).endswith("7 open   2 errors   4 not sent")


def test_a_search_shows_each_step_and_why_it_ended() -> None:
    limited = changed(generator=Generator(True, "it was tired", 0, 0, 0, ()))
    assert search_line(search_step(DOCUMENT, False)) == "    5,000/s  fails   p99<20ms PASS (6.80 ms)  errors=0 FAIL (9)"
    assert search_line(search_step(limited, False)).endswith("(the generator was the limit)")
    assert "the limit" not in search_line(search_step(limited, True))
    assert search_lines(SearchDocument(4000.0, "enough", (), None)) == ["maximum     4,000/s", "            enough"]
    assert search_lines(SearchDocument(None, "no", (), None)) == ["maximum     none", "            no"]
