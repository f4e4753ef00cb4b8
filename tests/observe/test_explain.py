"""Timelines: every event of a call in its place, and whatever a peer wrote, no line that hurts."""

from __future__ import annotations

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from holdfast.handler import AttemptRecord, CallRecord
from holdfast.observe.explain import COMPARED_MAX, WHY_NOT_AGAIN, WHY_NOT_BESIDE, timeline

A, B = "tcp://10.0.0.1:7000", "tcp://10.0.0.2:7000"


def retried() -> CallRecord:
    """A call that waited, failed at one node, paused, and was answered by the other."""
    return CallRecord(
        "shop.price",
        7,
        1000.0,
        2.0,
        attempts=[
            AttemptRecord(
                "original",
                0.0,
                node=A,
                compared=((A, 0.01), (B, 0.5)),
                why="p2c, waited",
                sent_s=0.004,
                queue_s=0.004,
                left_s=2.0,
                ended_s=0.012,
                outcome="unavailable",
                executed="no",
                message="the connection was lost",
            ),
            AttemptRecord(
                "retry", 0.032, node=B, compared=((B, 0.5),), why="only", sent_s=0.032, backoff_s=0.02, ended_s=0.05, outcome="ok"
            ),
        ],
        code="ok",
        duration_s=0.05,
        queue_us=1_000,
        run_us=7_000,
    )


def test_a_retried_call_event_by_event() -> None:
    head, _, *lines = timeline(retried())
    assert head == "shop.price: ok after 50.00 ms, 2 attempts, deadline 2,000 ms"
    assert lines[2:] == [
        "      4.00 ms  #1 waited 4.00 ms for a node that takes calls",
        f"      4.00 ms  #1 pick {A}: p2c, waited, load 0.01, against {B} 0.5",
        "      4.00 ms  #1 sent, deadline left 1,996 ms",
        "     12.00 ms  #1 failed: unavailable, surely not executed: the connection was lost",
        "     12.00 ms  #2 back-off: paused for 20.00 ms",
        f"     32.00 ms  #2 pick {B}: the only one that takes calls, load 0.5",
        "     32.00 ms  #2 sent again, deadline left 1,968 ms",
        "    ~37.00 ms    at the server: waited 1.00 ms, ran 7.00 ms",
        "     50.00 ms  #2 answered",
        "     50.00 ms  ok, deadline left 1,950 ms",
    ]


def test_bars_show_pauses_and_attempts_and_stay_narrow() -> None:
    lines = timeline(retried())
    scale, first, second = lines[1:4]
    assert re.search(r"\|0 ms +50\.00 ms\|", scale)
    assert re.fullmatch(r"#1 original +\|\.{4}#{8} +\| unavailable", first)
    assert re.fullmatch(r"#2 retry +\| {12}\.{21}#{18} +\| ok", second)
    assert max(map(len, lines[1:4])) <= 100


def test_one_attempt_needs_no_bars() -> None:
    record = retried()
    del record.attempts[0]
    assert not any("|" in line for line in timeline(record))


@pytest.mark.parametrize("why", WHY_NOT_AGAIN)
def test_a_failed_call_says_why_it_was_not_tried_again_and_what_the_budget_held(why: str) -> None:
    record = retried()
    del record.attempts[1]
    record.code, record.denied, record.budget, record.duration_s = "unavailable", why, 0.25, 0.012
    said = "\n".join(timeline(record))
    assert f"not tried again: {WHY_NOT_AGAIN[why]}" in said
    assert "retry budget: 0.2 retries left" in said
    assert said.endswith("12.00 ms  unavailable, deadline left 1,988 ms")


@pytest.mark.parametrize("why", WHY_NOT_BESIDE)
def test_a_slow_call_says_why_it_was_not_hedged(why: str) -> None:
    record = retried()
    record.hedging = why
    assert any(line.endswith(f"not sent beside a slow attempt: {WHY_NOT_BESIDE[why]}") for line in timeline(record))


def test_attempts_beside_one_another() -> None:
    record = retried()
    record.attempts = [
        AttemptRecord("original", 0.0, node=A, why="merged", sent_s=0.0, ended_s=0.05, outcome="superseded"),
        AttemptRecord("hedge", 0.03, node=B, why="p2c", sent_s=0.03, backoff_s=9.0, ended_s=0.05, outcome="ok"),
    ]
    said = "\n".join(timeline(record))
    assert f"#1 pick {A}: on the short way, which keeps no loads" in said
    assert "30.00 ms  #2 sent beside the slow one" in said
    assert "#1 given up: another attempt was answered" in said
    assert "back-off" not in said, "what a retry before it paused is not the hedge's"


def test_a_call_that_was_given_up_and_one_that_went_nowhere() -> None:
    record = retried()
    record.attempts = [AttemptRecord("original", 0.0, node=A, why="only", sent_s=0.0, ended_s=0.05, outcome="cancelled")]
    record.code = "cancelled"
    assert any("#1 given up: the caller cancelled the call" in line for line in timeline(record))
    assert timeline(CallRecord("shop.price", 0, 1.0, None, code="unavailable", duration_s=0.1)) == [
        "shop.price: unavailable after 100.00 ms, 0 attempts, no deadline",
        "    100.00 ms  sent to no node",
        "    100.00 ms  unavailable, no deadline",
    ]


def test_of_many_nodes_few_are_named() -> None:
    record = retried()
    record.attempts[0].compared = tuple((f"n{number}", 0.1) for number in range(50))
    (pick,) = [line for line in timeline(record) if "#1 pick" in line]
    assert f"and {50 - COMPARED_MAX} more" in pick
    assert len(pick) < 140


def test_a_hop_stands_between_sending_and_answer_with_its_own_deadline() -> None:
    record = retried()
    below = CallRecord("stock.left", 3, 0.002, 0.5, attempts=[], code="ok", duration_s=0.004)
    below.attempts.append(AttemptRecord("original", 0.001, node="tcp://c:1", why="only", sent_s=0.001, ended_s=0.004, outcome="ok"))
    below.hops.append(CallRecord("disk.read", 4, 0.001, None, code="not_found", duration_s=0.001))
    record.hops.append(below)
    said = timeline(record)
    sent, answered = (next(i for i, line in enumerate(said) if word in line) for word in ("#2 sent", "#2 answered"))
    hop = said.index("    ~39.00 ms    call stock.left, deadline left 500.00 ms")
    assert sent < hop < answered
    assert "    ~40.00 ms      #1 sent, deadline left 499.00 ms" in said[hop:answered]
    deep = next(line for line in said if "disk.read" in line and "call" in line)
    assert deep.endswith(" ms        call disk.read, no deadline")
    assert [line.split("|")[0].strip() for line in said[2:6]] == ["#1 original", "#2 retry", "stock.left", "#1 original"]


async def test_the_timeline_of_a_real_call_over_three_services() -> None:
    stock, shop = holdfast.Service("stock"), holdfast.Service("shop")
    behind: list[holdfast.Client] = []

    @stock.method(idempotent=True)
    async def left(sku: str) -> int:
        return 3

    @shop.method(idempotent=True)
    async def price(sku: str) -> int:
        found: int = await behind[0].call("stock.left", sku, returns=int)
        return found

    async with (
        holdfast.serve(stock, bind="tcp://127.0.0.1:0") as last,
        holdfast.serve(shop, bind="tcp://127.0.0.1:0") as middle,
        holdfast.connect(last.addresses[0]) as inner,
        holdfast.connect(middle.addresses[0]) as client,
    ):
        behind.append(inner)
        await client.ready()
        records: list[CallRecord] = []
        assert await client.using(explain=records.append, deadline=5.0).call("shop.price", "A", returns=int) == 3
    said = timeline(records[0])
    assert re.fullmatch(r"shop\.price: ok after .* ms, 1 attempt, deadline 5,000 ms", said[0])
    order = [
        f"#1 pick {middle.addresses[0]}",
        "#1 sent",
        "at the server",
        "call stock.left",
        f"#1 pick {last.addresses[0]}",
        "#1 answered",
        "ok,",
    ]
    places = [next(i for i, line in enumerate(said) if word in line) for word in order]
    assert places == sorted(places)
    left_of_hop = re.search(r"call stock\.left, deadline left ([\d,.]+) ms", "\n".join(said))
    assert left_of_hop is not None
    assert 0 < float(left_of_hop[1].replace(",", "")) <= 5_000


def test_what_a_peer_wrote_cannot_drive_the_terminal() -> None:
    record = retried()
    record.attempts[0].message = "\x1b[2Jgone\nok" + "x" * 10_000
    record.hops.append(CallRecord("\x1b]0;t\x07", 0, 0.0, None, code="\x9b"))
    said = timeline(record)
    assert all(line.isprintable() for line in said)
    assert max(map(len, said)) < 400


numbers = st.one_of(st.floats(), st.floats(-1, 1))
texts = st.text(max_size=30)
attempts = st.builds(
    AttemptRecord,
    kind=st.sampled_from(["original", "retry", "hedge"]),
    began_s=numbers,
    node=texts,
    compared=st.lists(st.tuples(texts, numbers), max_size=4).map(tuple),
    why=texts,
    sent_s=st.none() | numbers,
    queue_s=numbers,
    backoff_s=numbers,
    ended_s=st.none() | numbers,
    outcome=st.sampled_from(["ok", "superseded", "cancelled", "internal", ""]) | texts,
    executed=texts,
    message=texts,
)
flat = st.builds(
    CallRecord,
    method=texts,
    number=st.integers(),
    began_at=numbers,
    deadline_s=st.none() | numbers,
    attempts=st.lists(attempts, max_size=3),
    denied=texts,
    hedging=texts,
    budget=st.none() | numbers,
    code=texts,
    duration_s=st.none() | numbers,
    queue_us=st.none() | st.integers(0, 2**64),
    run_us=st.none() | st.integers(0, 2**64),
    hops=st.just([]),
)


@given(record=flat, hops=st.lists(flat, max_size=3))
def test_any_record_makes_lines_that_can_be_shown(record: CallRecord, hops: list[CallRecord]) -> None:
    record.hops = hops
    said = timeline(record)
    assert said
    assert all(line.isprintable() for line in said)
    assert all(len(line) <= 100 for line in said if "|" in line and re.search(r"\|.{52}\|", line))
    told = sum((trial.ended_s is not None) for trial in record.attempts)
    assert len(said) > told


def test_a_hop_that_is_farther_away_than_any_bar_is_wide_does_not_break_it() -> None:
    hop = CallRecord("far.away", 1, 1e308, None, [AttemptRecord("original", 1e308, "x", ended_s=1e308)], duration_s=1e308)
    answered = AttemptRecord("original", 0.0, "memory://a", sent_s=0.0, ended_s=1.0, outcome="ok")
    lines = timeline(CallRecord("shop.get", 1, 0.0, None, [answered], code="ok", duration_s=1.0, hops=[hop]))
    assert any("far.away" in line for line in lines)


def test_numbers_that_are_none_do_not_break_the_bars() -> None:
    record = retried()
    record.attempts[0].began_s = math.nan
    record.attempts[1].ended_s = math.inf
    assert timeline(record)
    record.duration_s = math.inf
    assert timeline(record)
