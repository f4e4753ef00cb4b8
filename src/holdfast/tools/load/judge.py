"""Expectations: `p99<20ms,errors=0` read, and held against what was measured.

    p50 p90 p95 p99 p99_9 max mean     a duration with its unit          p99<20ms
    rate                               answered calls per second         rate>=4900/s
    errors                             a number, or a share              errors=0   errors<0.1%
    not_sent                           a number                          not_sent=0

Owned here: that grammar and the verdicts. Pure. What may never happen: a percentile that holds because the slowest calls were not sent;
a call that was due and not sent counts as slower than any.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import NamedTuple

from ...errors import ConfigError
from .plan import Plan
from .tally import Measured

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p95": 95.0, "p99": 99.0, "p99_9": 99.9}
LATENCIES = (*PERCENTILES, "max", "mean")
COUNTS = ("errors", "not_sent")
METRICS = (*LATENCIES, "rate", *COUNTS)

REACHED_SHARE = 0.95
FAILED_SHARE_MAX = 0.001

_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
_FORM = re.compile(r"([a-z0-9_.]+)\s*(<=|>=|==|=|<|>)\s*(.+)")


class Verdict(NamedTuple):
    """One expectation and what came of it. `value` is what was measured, for people."""

    text: str
    held: bool
    value: str


class Expectation(NamedTuple):
    """One thing that must hold. `share`: the bound is a share of the calls that ended, not a number of calls."""

    text: str
    metric: str
    compare: str
    bound: float
    share: bool = False

    def judge(self, measured: Measured) -> Verdict:
        """Hold it against a result."""
        value = _value(self, measured)
        return Verdict(self.text, _COMPARE[self.compare](value, self.bound), _shown(self, value, measured))


def parse_expectations(text: str, parse_duration: Callable[[str], float], parse_rate: Callable[[str], float]) -> list[Expectation]:
    """Read expectations that are separated by commas.

    Args:
        parse_duration, parse_rate: read `20ms` as seconds and `5k/s` as calls per second; ValueError says what to write.
    Raises: ConfigError that says which one, and what to write.
    """
    parts = [part.strip() for part in text.split(",")]
    if not any(parts):
        raise ConfigError("nothing is expected; write something like p99<20ms,errors=0")
    return [_parse(part, parse_duration, parse_rate) for part in parts if part]


def judge_all(expectations: list[Expectation], measured: Measured) -> list[Verdict]:
    """Hold every expectation against a result."""
    return [expectation.judge(measured) for expectation in expectations]


def also_expected(expectations: list[Expectation], plan: Plan) -> list[Expectation]:
    """Return what must hold besides, at a rate that is said to hold: that it is reached, and that few calls fail.

    Without it a server that refuses quickly would hold any latency. Whoever says what may fail has said it.
    """
    assert plan.rate is not None
    due = plan.rate * plan.duration_s
    chance = 3 / math.sqrt(due) if plan.arrivals == "poisson" else 1 / due  # as many as come by chance, nearly always
    reached = plan.rate * max(REACHED_SHARE - chance, 0.0)
    more = [Expectation(f"rate>={reached:.0f}/s" if reached >= 100 else f"rate>={reached:.3g}/s", "rate", ">=", reached)]
    if not any(expectation.metric == "errors" for expectation in expectations):
        more.append(Expectation(f"errors<{FAILED_SHARE_MAX:.1%}", "errors", "<", FAILED_SHARE_MAX, share=True))
    return more


def percentile_of_due(measured: Measured, percent: float) -> float:
    """The latency in seconds that so many per cent of the calls that were *due* did not exceed; endless when those not sent begin there."""
    latency = measured.latency()
    due = latency.count + measured.not_sent + measured.unfinished
    wanted = due * percent / 100
    if not latency.count or wanted > latency.count:
        return math.inf
    return latency.percentile(min(100.0 * wanted / latency.count, 100.0))


def _parse(part: str, parse_duration: Callable[[str], float], parse_rate: Callable[[str], float]) -> Expectation:
    found = _FORM.fullmatch(part)
    if found is None:
        raise ConfigError(f"{part!r} is not an expectation; write something like p99<20ms, errors=0 or rate>=4900/s")
    metric, compare, text = found[1].replace(".", "_"), found[2], found[3].strip()
    if metric not in METRICS:
        raise ConfigError(f"{part!r}: there is no figure {found[1]!r}; there are {', '.join(METRICS)}")
    try:
        if metric in LATENCIES:
            return Expectation(part, metric, compare, parse_duration(text))
        if metric == "rate":
            return Expectation(part, metric, compare, _number(text) if "/" not in text else parse_rate(text))
        if text.endswith("%"):
            return Expectation(part, metric, compare, _number(text[:-1].strip()) / 100, share=True)
        return Expectation(part, metric, compare, _number(text))
    except ValueError as error:
        raise ConfigError(f"{part!r}: {error}") from error


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError(f"{text!r}: expected a number of 0 or more")
    return number


def _value(expectation: Expectation, measured: Measured) -> float:
    metric = expectation.metric
    if metric in PERCENTILES:
        return percentile_of_due(measured, PERCENTILES[metric])
    if metric == "max":
        return math.inf if measured.not_sent or measured.unfinished or not measured.done else measured.latency().max
    if metric == "mean":
        latency = measured.latency()
        return latency.sum / latency.count if latency.count and not measured.not_sent else math.inf
    if metric == "rate":
        return measured.rate
    count = float(measured.failed if metric == "errors" else measured.not_sent)
    if not expectation.share:
        return count
    whole = measured.done if metric == "errors" else measured.sent + measured.not_sent
    return count / whole if whole else math.inf  # nothing was answered: no share of it is good


def _shown(expectation: Expectation, value: float, measured: Measured) -> str:
    if expectation.metric in LATENCIES:
        if not math.isfinite(value):
            return "not all calls were sent" if measured.not_sent else "no such answer"
        return f"{milliseconds(value)} ms"
    if expectation.metric == "rate":
        return f"{value:,.0f}/s"
    if expectation.share:
        return f"{value:.2%}" if math.isfinite(value) else "nothing ended"
    return f"{value:,.0f}"


def milliseconds(seconds: float) -> str:
    """Seconds as milliseconds with three figures: `0.084`, `6.8`, `1,250`."""
    value = seconds * 1000
    for limit, places in ((0.1, 3), (10, 2), (100, 1)):
        if value < limit:
            return f"{value:.{places}f}"
    return f"{value:,.0f}"
