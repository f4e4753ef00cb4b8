"""Counts: exact, bounded, and frozen when handed out."""

from __future__ import annotations

import pytest

from holdfast.facts import (
    BreakerChanged,
    CallEnded,
    CallExplained,
    CallHedged,
    CallHeldBack,
    CallRetried,
    Fact,
    FallbackUsed,
    LimitChanged,
    Listening,
    NodeChanged,
    NodeEjected,
    NodesChanged,
    PanicChanged,
    ResolveFailed,
    RetryDenied,
    StrainChanged,
)
from holdfast.handler import CallRecord
from holdfast.observe.metrics import OTHER, REASONS, REASONS_MAX, Metrics


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


@pytest.mark.parametrize(
    ("fact", "event", "reasons"),
    [
        (BreakerChanged("a", "open", "r"), "breaker_changed", {"open": 2}),
        (BreakerChanged("a", "open", "r", enforced=False), "breaker_changed", {"shadow:open": 2}),
        (CallExplained(CallRecord("m", 1, 0.0, None, code="internal")), "call_explained", {"internal": 2}),
        (CallExplained("what somebody else calls a record"), "call_explained", {OTHER: 2}),
        (CallHedged("m", 0.1), "call_hedged", None),
        (CallHeldBack("m", "throttle"), "call_held_back", {"throttle": 2}),
        (CallHeldBack("m", "limit", enforced=False), "call_held_back", {"shadow:limit": 2}),
        (CallRetried("m", 1, "unavailable", 0.1), "call_retried", {"unavailable": 2}),
        (FallbackUsed("m", "unavailable"), "fallback_used", {"unavailable": 2}),
        (FallbackUsed("m", "unavailable", enforced=False), "fallback_used", {"shadow:unavailable": 2}),
        (LimitChanged(20), "limit_changed", {"enforced": 2}),
        (LimitChanged(20, enforced=False), "limit_changed", {"shadow": 2}),
        (NodeChanged("a", "down", "r"), "node_changed", {"down": 2}),
        (NodeEjected("a", "fails 40 %", 30.0), "node_ejected", {"enforced": 2}),
        (NodeEjected("a", "fails 40 %", 30.0, enforced=False), "node_ejected", {"shadow": 2}),
        (NodesChanged(3, 1, 0), "nodes_changed", None),
        (PanicChanged(True, 1, 5), "panic_changed", {"on": 2}),
        (PanicChanged(False, 4, 5), "panic_changed", {"off": 2}),
        (ResolveFailed("s", "r", 1.0), "resolve_failed", None),
        (RetryDenied("m", "budget"), "retry_denied", {"budget": 2}),
        (StrainChanged(True, 5), "strain_changed", {"on": 2}),
        (StrainChanged(False, 5), "strain_changed", {"off": 2}),
        (StrainChanged(True, 5, enforced=False), "strain_changed", {"shadow:on": 2}),
    ],
)
def test_facts_are_counted_by_their_reason_where_they_have_few(fact: Fact, event: str, reasons: dict[str, int] | None) -> None:
    metrics = Metrics()
    metrics(fact)
    metrics(fact)
    found = metrics.snapshot()
    assert found.events == {event: 2}
    assert found.reasons == ({} if reasons is None else {event: reasons})


def test_reasons_cannot_grow_the_table_and_no_count_is_lost() -> None:
    metrics = Metrics()
    for n in range(1_000):
        metrics(RetryDenied("m", f"reason{n}"))
    counts = metrics.snapshot().reasons["retry_denied"]
    assert len(counts) == REASONS_MAX + 1
    assert sum(counts.values()) == 1_000


def test_a_field_that_is_counted_by_exists() -> None:
    assert [kind for kind, field in REASONS.items() if field not in kind.__struct_fields__] == []
