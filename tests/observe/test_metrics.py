"""Counts: exact, bounded, and frozen when handed out."""

from __future__ import annotations

import pytest

from holdfast.facts import CallEnded, Listening
from holdfast.observe.metrics import OTHER, Metrics


def ended(method: str, code: str = "ok", duration_s: float = 0.001, side: str = "server") -> CallEnded:
    return CallEnded(side=side, method=method, code=code, duration_s=duration_s)


def test_facts_are_counted_by_kind() -> None:
    metrics = Metrics()
    metrics(Listening(address="a"))
    metrics(ended("m"))
    metrics(ended("m"))
    assert metrics.snapshot().events == {"call_ended": 2, "listening": 1}


def test_calls_are_counted_by_side_method_and_code() -> None:
    metrics = Metrics()
    for code in ("ok", "ok", "internal"):
        metrics(ended("shop.place", code))
    metrics(ended("shop.place", side="client"))
    client, server = metrics.snapshot().calls
    assert (client.side, client.codes) == ("client", {"ok": 1})
    assert (server.side, server.method, server.codes, server.count) == ("server", "shop.place", {"internal": 1, "ok": 2}, 3)


def test_latency_is_kept_per_method() -> None:
    metrics = Metrics()
    for n in range(100):
        metrics(ended("m", duration_s=1.0 if n >= 98 else 0.01))
    (row,) = metrics.snapshot().calls
    assert row.p50_s == pytest.approx(0.01, rel=0.13)
    assert row.p99_s == pytest.approx(1.0, rel=0.13)
    assert row.max_s == 1.0


def test_methods_past_the_bound_are_other_and_no_count_is_lost() -> None:
    metrics = Metrics(methods_max=3)
    for n in range(10):
        metrics(ended(f"m{n}"))
    rows = {row.method: row.count for row in metrics.snapshot().calls}
    assert rows == {"m0": 1, "m1": 1, "m2": 1, OTHER: 7}


def test_unknown_codes_and_sides_cannot_grow_the_table() -> None:
    metrics = Metrics()
    for n in range(100):
        metrics(ended("m", code=f"code{n}", side=f"side{n}"))
    (row,) = metrics.snapshot().calls
    assert (row.side, row.codes) == (OTHER, {OTHER: 100})


def test_a_snapshot_does_not_change() -> None:
    metrics = Metrics()
    metrics(ended("m"))
    before = metrics.snapshot()
    metrics(ended("m", "internal"))
    assert before.calls[0].codes == {"ok": 1}
    assert before.events == {"call_ended": 1}
