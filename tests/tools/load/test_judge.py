"""Expectations: each figure, comparison and unit, and that what was not sent cannot make one hold."""

from __future__ import annotations

import math

import pytest

from holdfast.cli.values import parse_duration, parse_rate
from holdfast.errors import ConfigError
from holdfast.tools.load.judge import also_expected, judge_all, milliseconds, parse_expectations, percentile_of_due
from holdfast.tools.load.plan import Plan
from holdfast.tools.load.tally import Measured
from tests.tools.load.helpers import measured


def verdicts(text: str, result: Measured) -> list[bool]:
    return [each.held for each in judge_all(parse_expectations(text, parse_duration, parse_rate), result)]


HUNDRED = measured(seconds=[0.001] * 98 + [0.5, 1.0], errors={"aborted": 2}, elapsed_s=2.0)  # 100 answered, 2 refused, 50/s


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("p50<2ms", True),
        ("p50<1us", False),
        ("p90<=2ms", True),
        ("p95<2ms", True),
        ("p99<2ms", False),
        ("p99<0.6s", True),
        ("p99_9<0.9s", False),
        ("p99.9<=1s", True),
        ("max<=1s", True),
        ("max<1s", False),
        ("max=1s", True),
        ("mean<20ms", True),
        ("mean<1ms", False),
        ("errors=2", True),
        ("errors==0", False),
        ("errors<2%", True),
        ("errors<1.9%", False),
        ("errors>=2", True),
        ("rate>=50", True),
        ("rate>50/s", False),
        ("rate>=3000/m", True),
        ("rate<0.1k/s", True),
        ("not_sent=0", True),
        ("not_sent>0", False),
        ("not_sent<=0%", True),
        (" p50 < 2ms , errors = 2 ", True),
        ("p50<2ms,", True),
    ],
)
def test_an_expectation_holds_or_not(text: str, held: bool) -> None:
    assert all(verdicts(text, HUNDRED)) is held


def test_each_is_judged_by_itself_and_shows_what_was_measured() -> None:
    judged = judge_all(parse_expectations("p50<2ms,errors=0,errors<1%,rate>=60/s,max<1s", parse_duration, parse_rate), HUNDRED)
    assert [(each.text, each.held, each.value) for each in judged] == [
        ("p50<2ms", True, "1.10 ms"),
        ("errors=0", False, "2"),
        ("errors<1%", False, "1.96%"),
        ("rate>=60/s", False, "50/s"),
        ("max<1s", False, "1,000 ms"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing is expected"),
        (" , ", "nothing is expected"),
        ("p99", "'p99' is not an expectation; write something like p99<20ms"),
        ("p98<1ms", "there is no figure 'p98'; there are p50, p90"),
        ("p99<20", "'p99<20': '20' is not a duration; write a number and a unit"),
        ("p99<20%", "is not a duration"),
        ("errors<x", "'x' is not a number"),
        ("errors<-1", "0 or more"),
        ("errors<nan", "0 or more"),
        ("rate>=1x", "'1x' is not a number"),
        ("rate>=1/d", "is not a rate"),
        ("p99!20ms", "is not an expectation"),
    ],
)
def test_what_is_no_expectation_says_what_to_write(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_expectations(text, parse_duration, parse_rate)
    assert message in str(caught.value)


def test_calls_that_were_not_sent_are_slower_than_any() -> None:
    few = measured(seconds=[0.001] * 985, not_sent=15)
    assert percentile_of_due(few, 98) < 0.002
    assert percentile_of_due(few, 99) == math.inf
    assert verdicts("p90<2ms,p99<1h,max<1h,mean<1h,not_sent=15,not_sent<1%", few) == [True, False, False, False, True, False]
    assert judge_all(parse_expectations("p99<1h", parse_duration, parse_rate), few)[0].value == "not all calls were sent"


def test_calls_that_never_ended_are_slower_than_any() -> None:
    assert verdicts("p50<2ms,p99<1h,max<1h", measured(seconds=[0.001] * 90, unfinished=10)) == [True, False, False]


def test_nothing_answered_holds_no_latency_and_no_share() -> None:
    judged = judge_all(parse_expectations("p50<1h,max<1h,errors<100%,rate>0", parse_duration, parse_rate), Measured())
    assert [each.held for each in judged] == [False] * 4
    assert [each.value for each in judged] == ["no such answer", "no such answer", "nothing ended", "0/s"]


def test_a_rate_that_holds_is_reached_and_hardly_fails() -> None:
    plan = Plan(rate=100, duration_s=1)
    also = also_expected(parse_expectations("p99<1s", parse_duration, parse_rate), plan)
    assert [each.held for each in judge_all(also, measured(seconds=[0.01] * 100))] == [True, True]
    assert [each.held for each in judge_all(also, measured(seconds=[0.01] * 80))] == [False, True]
    assert [each.held for each in judge_all(also, measured(seconds=[0.01] * 100, errors={"aborted": 1}))] == [True, False]
    said = also_expected(parse_expectations("p99<1s,errors<5%", parse_duration, parse_rate), plan)
    assert [each.metric for each in said] == ["rate"]


def test_poisson_arrivals_may_be_fewer_by_chance() -> None:
    constant, poisson = (also_expected([], Plan(rate=100, duration_s=1, arrivals=kind))[0].bound for kind in ("constant", "poisson"))
    assert poisson < constant < 100


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.000084, "0.084"), (0.0068, "6.80"), (0.0142, "14.2"), (1.25, "1,250"), (0, "0.000"), (0.1, "100")]
)
def test_milliseconds_have_three_figures(seconds: float, text: str) -> None:
    assert milliseconds(seconds) == text
