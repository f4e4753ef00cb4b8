"""The JSON of a result: its exact shape, which programs rely on."""

from __future__ import annotations

import json

import pytest

from holdfast.errors import ConfigError
from holdfast.tools.load.document import (
    SearchDocument,
    Subject,
    encode_document,
    make_document,
    read_document,
    search_step,
)
from holdfast.tools.load.judge import Verdict
from holdfast.tools.load.plan import Plan
from holdfast.tools.load.tally import Measured, Tally
from tests.tools.load.helpers import measured

SUBJECT = Subject("tcp://127.0.0.1:7000", "shop.price", ("sku=A",))
RESULT = measured(seconds=[0.001] * 9 + [0.25], errors={"aborted": 2}, elapsed_s=2.0, not_sent=3)


def test_the_object_has_exactly_these_keys_and_values() -> None:
    document = json.loads(encode_document(make_document(SUBJECT, Plan(rate=100), RESULT, [Verdict("errors=0", False, "2")])))
    histogram, over_time, steps = document.pop("histogram"), document.pop("over_time"), document.pop("steps")
    latency = {"p50": 1.0417, "p90": 1.0417, "p95": 250.0, "p99": 250.0, "p99_9": 250.0, "max": 250.0, "mean": 25.9}
    assert document == {
        "target": "shop.price",
        "arguments": ["sku=A"],
        "address": "tcp://127.0.0.1:7000",
        "mode": "open",
        "asked_rate_per_s": 100.0,
        "arrivals": "constant",
        "concurrency": None,
        "connections": 1,
        "processes": 1,
        "duration_s": 10.0,
        "warmup_s": 1.0,
        "elapsed_s": 2.0,
        "sent": 12,
        "done": 12,
        "ok": 10,
        "not_sent": 3,
        "unfinished": 0,
        "errors": {"aborted": 2},
        "error_messages": {"aborted": "what aborted said"},
        "rate_per_s": 5.0,
        "latency_ms": latency | {"p50": document["latency_ms"]["p50"], "p90": document["latency_ms"]["p90"]},
        "first_item_ms": None,
        "generator": {"limited": False, "why": "", "late": 0, "late_max_ms": 0.0, "lag_max_ms": 0.0, "cpu": [0.1]},
        "expectations": [{"expect": "errors=0", "held": False, "value": "2"}],
        "processes_lost": [],
        "interrupted": False,
    }
    assert 1.0 <= document["latency_ms"]["p50"] <= 1.125
    assert [bucket["count"] for bucket in histogram] == [9, 1]
    assert histogram[-1]["le_ms"] == 250.0
    assert over_time[0] == {
        "at_s": 0.0,
        "ok_per_s": 20.0,
        "errors_per_s": 4.0,
        **{k: over_time[0][k] for k in ("p50_ms", "p99_ms", "max_ms")},
    }
    assert over_time[1] == {"at_s": 0.5, "ok_per_s": 0.0, "errors_per_s": 0.0, "p50_ms": 0.0, "p99_ms": 0.0, "max_ms": 0.0}
    assert [(step["name"], step["done"], step["ok"], step["errors"]) for step in steps] == [("shop.price", 12, 10, {"aborted": 2})]


def test_it_is_one_line_and_reads_back_as_it_was() -> None:
    document = make_document(SUBJECT, Plan(concurrency=5), RESULT)
    encoded = encode_document(document)
    assert encoded.count(b"\n") == 1
    assert read_document(encoded, "old.json") == document
    assert (document.mode, document.concurrency, document.asked_rate_per_s, document.arrivals) == ("closed", 5, None, None)


def test_nothing_measured_is_a_document_too() -> None:
    document = make_document(SUBJECT, Plan(rate=1), Measured())
    assert (document.done, document.latency_ms.max, document.histogram, document.over_time) == (0, 0.0, (), ())


def test_a_stream_has_the_latency_of_first_items() -> None:
    tally = Tally("shop.watch", stream=True)
    assert tally.first_item is not None
    tally.first_item.record(0.125)
    document = make_document(SUBJECT, Plan(rate=1), Measured(steps=(tally.step(),)))
    assert document.first_item_ms is not None
    assert document.first_item_ms.max == 125.0


def test_the_generators_limit_is_a_field() -> None:
    document = make_document(SUBJECT, Plan(rate=1), Measured(cpu=(0.99,)))
    assert (document.generator.limited, document.generator.why) == (True, "the client process used 99% of a core")


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"sent":1}', b"\xff"])
def test_what_is_no_result_is_refused(content: bytes) -> None:
    with pytest.raises(ConfigError, match=r"old.json is not a result of holdfast bench --json"):
        read_document(content, "old.json")


def test_a_search_has_its_steps_and_the_best_result() -> None:
    best = make_document(SUBJECT, Plan(rate=100), RESULT, [Verdict("p99<1s", True, "250 ms")])
    found = json.loads(encode_document(SearchDocument(100.0, "why", (search_step(best, True),), best)))
    assert list(found) == ["max_rate_per_s", "stopped_because", "steps", "best", "interrupted"]
    (step,) = found["steps"]
    assert list(step) == ["asked_rate_per_s", "held", "rate_per_s", "latency_ms", "errors", "expectations", "generator"]
    assert (found["max_rate_per_s"], step["held"], found["best"]["done"]) == (100.0, True, 12)
