"""Logs: one line per event, safe to show, never too many, never raising."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from holdfast import facts
from holdfast.facts import (
    BreakerChanged,
    CallEnded,
    CallExplained,
    CallHedged,
    CallHeldBack,
    ConnectionClosed,
    ConnectionOpened,
    ConnectionRefused,
    Fact,
    HandlerFailed,
    Listening,
    NodeChanged,
    NodeEjected,
    NodesChanged,
    PanicChanged,
    ProtocolFailed,
    ResolveFailed,
    RetryDenied,
    SignalReceived,
    StrainChanged,
)
from holdfast.handler import AttemptRecord, CallRecord
from holdfast.observe.log import LEVELS, TRACEBACK_MAX_CHARS, VALUE_MAX_CHARS, JsonLog, Log, TextLog, event_name, level_of

NOON = datetime(2026, 1, 31, 12, 4, 31, 123456, tzinfo=UTC)


class FakeClock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time


def text_log(stream: io.StringIO, **options: object) -> TextLog:
    return TextLog(stream, wall=lambda: NOON, clock=options.pop("clock", FakeClock()), **options)  # type: ignore[arg-type]


def json_log(stream: io.StringIO, **options: object) -> JsonLog:
    return JsonLog(stream, wall=lambda: NOON, clock=options.pop("clock", FakeClock()), **options)  # type: ignore[arg-type]


def failed(message: str = "boom") -> HandlerFailed:
    try:
        raise ValueError(message)
    except ValueError as error:
        return HandlerFailed(method="shop.place", incident="a1b2", error=error)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (ConnectionOpened, "connection_opened"),
        (HandlerFailed, "handler_failed"),
        (Listening, "listening"),
        (SignalReceived, "signal_received"),
    ],
)
def test_the_event_name_is_the_class_in_snake_case(kind: type[Fact], name: str) -> None:
    assert event_name(kind) == name


def test_text_is_one_line_with_time_event_and_fields() -> None:
    out = io.StringIO()
    text_log(out)(ConnectionOpened(side="server", peer="tcp://127.0.0.1:51234"))
    assert out.getvalue() == "12:04:31.123 connection opened  side=server peer=tcp://127.0.0.1:51234\n"


def test_json_is_one_object_with_event_at_and_fields() -> None:
    out = io.StringIO()
    json_log(out)(ConnectionClosed(side="client", peer="x", reason='said "bye"\n', open_calls=2))
    assert out.getvalue().count("\n") == 1
    assert json.loads(out.getvalue()) == {
        "event": "connection_closed",
        "at": "2026-01-31T12:04:31.123Z",
        "side": "client",
        "peer": "x",
        "reason": 'said "bye"\n',
        "open_calls": 2,
    }


def test_a_call_is_logged_only_when_verbose() -> None:
    fact = CallEnded(side="server", method="shop.place", code="ok", duration_s=0.0123456789)
    out = io.StringIO()
    text_log(out)(fact)
    assert out.getvalue() == ""
    text_log(out, verbose=True)(fact)
    assert "call ended" in out.getvalue()
    assert "duration_s=0.0123457" in out.getvalue()


def test_quiet_writes_warnings_and_errors_only() -> None:
    out = io.StringIO()
    log = text_log(out, quiet=True)
    log(Listening(address="tcp://127.0.0.1:1"))
    assert out.getvalue() == ""
    log(ConnectionRefused(peer="x", reason="speaks HTTP"))
    log(failed())
    assert "connection refused" in out.getvalue()
    assert "handler failed" in out.getvalue()


def test_always_passes_by_level_and_rate() -> None:
    out = io.StringIO()
    log = json_log(out, quiet=True, burst=0)
    log.always(Listening(address="a"))
    assert json.loads(out.getvalue())["event"] == "listening"


def test_a_failed_handler_shows_its_traceback_and_incident() -> None:
    out = io.StringIO()
    text_log(out)(failed())
    assert "incident=a1b2" in out.getvalue()
    assert 'error="ValueError: boom"' in out.getvalue()
    assert "Traceback (most recent call last)" in out.getvalue()
    out = io.StringIO()
    json_log(out)(failed())
    record = json.loads(out.getvalue())
    assert (record["incident"], record["error"]) == ("a1b2", "ValueError: boom")
    assert record["traceback"].endswith("ValueError: boom\n")


def test_what_a_peer_wrote_cannot_drive_the_terminal() -> None:
    out = io.StringIO()
    log = text_log(out)
    log(ConnectionRefused(peer="x", reason="\x1b[2Jgone\nlistening address=fake\x9b"))
    log(failed("\x1b]0;title\x07"))
    assert "\x1b" not in out.getvalue()
    assert "\x9b" not in out.getvalue()
    assert "\\x1b[2Jgone\\nlistening" in out.getvalue()


def test_lone_surrogates_do_not_break_json() -> None:
    out = io.StringIO()
    json_log(out)(ConnectionRefused(peer="\udcff", reason="r"))
    assert json.loads(out.getvalue())["peer"] == "\\udcff"


def test_long_values_and_tracebacks_are_cut() -> None:
    out = io.StringIO()
    json_log(out)(failed("y" * 100_000))
    record = json.loads(out.getvalue())
    assert len(record["error"]) == VALUE_MAX_CHARS + 1
    assert len(record["traceback"]) <= TRACEBACK_MAX_CHARS + 2
    out = io.StringIO()
    text_log(out)(ConnectionRefused(peer="x" * 5_000, reason="r"))
    assert len(out.getvalue()) < 1_200


@pytest.mark.parametrize("make", [text_log, json_log])
def test_a_flood_of_one_kind_is_cut_and_counted_and_other_kinds_pass(make: Callable[..., Log]) -> None:
    out, clock = io.StringIO(), FakeClock()
    log = make(out, clock=clock, lines_per_s=10.0, burst=5)
    for _ in range(1_000):
        log(ConnectionRefused(peer="p", reason="r"))
    assert out.getvalue().count("\n") == 5
    log(Listening(address="a"))
    assert out.getvalue().count("\n") == 6
    clock.time += 0.125
    log(ConnectionRefused(peer="p", reason="r"))
    assert re.search(r"suppressed\W+995", out.getvalue().splitlines()[-1])


def test_the_rate_holds_over_time() -> None:
    out, clock = io.StringIO(), FakeClock()
    log = json_log(out, clock=clock, lines_per_s=10.0, burst=5)
    for _ in range(10_000):
        clock.time += 0.001
        log(ConnectionRefused(peer="p", reason="r"))
    assert 100 <= out.getvalue().count("\n") <= 106


def test_close_accounts_for_what_was_suppressed_last() -> None:
    out = io.StringIO()
    log = json_log(out, burst=1)
    for _ in range(4):
        log(Listening(address="a"))
    log.close()
    log.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 2
    assert json.loads(lines[1]) == {"event": "listening", "at": "2026-01-31T12:04:31.123Z", "suppressed": 3}


def test_a_closed_or_full_stream_loses_the_line_and_nothing_else() -> None:
    out = io.StringIO()
    log = text_log(out)
    out.close()
    log(Listening(address="a"))
    assert log.lost == 1
    log = text_log(FullDisk())
    log(Listening(address="a"))
    log(Listening(address="a"))
    assert log.lost == 2


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(28, "No space left on device")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_without_text_is_logged_by_its_type() -> None:
    out = io.StringIO()
    text_log(out)(HandlerFailed(method="m", incident="i", error=Unprintable()))
    assert "error=Unprintable" in out.getvalue()


def test_a_protocol_that_raised_is_an_error_with_its_traceback() -> None:
    out = io.StringIO()
    text_log(out)(ProtocolFailed("tcp://10.0.0.1:5000", "data_received", failed().error))
    assert "callback=data_received" in out.getvalue()
    assert "Traceback (most recent call last)" in out.getvalue()
    assert LEVELS[ProtocolFailed] == "error"


def test_colour_only_when_asked() -> None:
    out = io.StringIO()
    text_log(out, colour=True)(failed())
    assert out.getvalue().startswith("\x1b[31m12:04:31.123 handler failed")
    assert "\x1b[0m" in out.getvalue().splitlines()[0]


def explained(code: str) -> CallExplained:
    attempts = [
        AttemptRecord("original", 0.0, node="tcp://a:1", queue_s=0.002, ended_s=0.1, outcome="unavailable", message="lost"),
        AttemptRecord("retry", 0.12, node="tcp://b:1", backoff_s=0.02, ended_s=0.2, outcome=code, message="" if code == "ok" else "gone"),
    ]
    denied = "" if code == "ok" else "budget"
    return CallExplained(
        CallRecord("shop.price", 1, 5.0, 2.0, attempts, denied, budget=None if code == "ok" else 0.0, code=code, duration_s=0.2)
    )


def test_an_explained_call_is_one_line_with_what_applies() -> None:
    out = io.StringIO()
    text_log(out)(explained("ok"))
    assert out.getvalue() == (
        '12:04:31.123 call explained     method=shop.price code=ok duration_s=0.2 deadline_s=2 attempts=2 nodes="tcp://a:1, tcp://b:1"'
        " waited_s=0.002 backoff_s=0.02\n"
    )
    out = io.StringIO()
    json_log(out)(explained("unavailable"))
    assert json.loads(out.getvalue()) == {
        "event": "call_explained",
        "at": "2026-01-31T12:04:31.123Z",
        "method": "shop.price",
        "code": "unavailable",
        "duration_s": 0.2,
        "deadline_s": 2.0,
        "attempts": 2,
        "nodes": "tcp://a:1, tcp://b:1",
        "waited_s": 0.002,
        "backoff_s": 0.02,
        "denied": "budget",
        "budget": 0.0,
        "error": "gone",
    }


def test_failed_calls_are_warnings_and_sampled_ones_are_not() -> None:
    out = io.StringIO()
    log = json_log(out, quiet=True)
    for code in ("ok", "cancelled", "unavailable"):
        log(explained(code))
    assert [json.loads(line)["code"] for line in out.getvalue().splitlines()] == ["unavailable"]
    assert log.wants(CallExplained)


def test_a_storm_of_failed_calls_does_not_flood_the_log() -> None:
    out = io.StringIO()
    log = json_log(out, lines_per_s=10.0, burst=5)
    for _ in range(10_000):
        log(explained("unavailable"))
    log.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 6
    assert json.loads(lines[-1])["suppressed"] == 9_995


@pytest.mark.parametrize(
    ("fact", "level"),
    [
        (BreakerChanged("a", "open", "5 failures in a row", 5.0), "warning"),
        (BreakerChanged("a", "open", "5 failures in a row", 5.0, enforced=False), "info"),
        (BreakerChanged("a", "probing", "its time is over"), "debug"),
        (BreakerChanged("a", "closed", "the probe was answered"), "info"),
        (NodeChanged("a", "down", "refused"), "warning"),
        (NodeChanged("a", "ready"), "info"),
        (NodeChanged("a", "connecting"), "debug"),
        (NodesChanged(3, 1, 0), "info"),
        (NodeEjected("a", "fails 40 %", 30.0), "warning"),
        (NodeEjected("a", "fails 40 %", 30.0, enforced=False), "info"),
        (PanicChanged(True, 1, 5), "warning"),
        (PanicChanged(False, 4, 5), "info"),
        (StrainChanged(True, 5), "warning"),
        (StrainChanged(False, 5), "info"),
        (StrainChanged(True, 5, enforced=False), "info"),
        (ResolveFailed("dns+tcp://a", "no such name", 1.0), "warning"),
        (CallHeldBack("m", "throttle"), "warning"),
        (CallHeldBack("m", "throttle", enforced=False), "debug"),
        (CallHedged("m", 0.1), "debug"),
        (RetryDenied("m", "budget"), "debug"),
        (Listening("a"), "info"),
    ],
)
def test_how_loud_a_fact_is(fact: Fact, level: str) -> None:
    assert level_of(fact) == level
    out = io.StringIO()
    text_log(out)(fact)
    assert bool(out.getvalue()) == (level != "debug")
    text_log(out := io.StringIO(), quiet=True)(fact)
    assert bool(out.getvalue()) == (level == "warning")


def test_no_fact_is_louder_than_its_kind() -> None:
    order = ["debug", "info", "warning", "error"]
    quiet = [
        explained("ok"),
        NodeChanged("a", "down"),
        BreakerChanged("a", "open", "r"),
        CallHeldBack("m", "queue"),
        PanicChanged(True, 1, 5),
        StrainChanged(True, 5),
    ]
    for fact in quiet:
        assert order.index(level_of(fact)) <= order.index(LEVELS[type(fact)])
    assert {kind for kind in LEVELS if kind.__module__ == facts.__name__} <= set(facts.Fact.__subclasses__())


def test_a_node_that_is_down_reads_as_its_fields() -> None:
    out = io.StringIO()
    text_log(out)(NodeChanged("tcp://a:1", "down", "connection refused"))
    assert out.getvalue() == '12:04:31.123 node changed       node=tcp://a:1 state=down reason="connection refused"\n'
