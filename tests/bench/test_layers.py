"""`make bench-layers`, tiny: every row is there and is computed from what was measured.

What may never happen here: a figure that is judged, but for one thing that cannot be otherwise: a layer is less than the whole.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bench import layer_features, layer_parts, layer_stack, layers
from bench.layer_features import BASE, FEATURES, IN_FLIGHT, Echo, Feature
from bench.processes import WrongReply
from holdfast import Client, ClientConfig
from holdfast.facts import CallEnded, wants
from holdfast.rpc.responder import ResponderSession

ROUNDS = 3
CALLS = 20 * IN_FLIGHT
LAYERS = "caller unary codec_client session_client wire_client link wire_server codec_server session_server handler_task handler wake_up"
WHOLES = "sum whole rest bare over_bare"
ADDED = "again metrics view trailers by_name metadata deadline no_deadline keyword arguments context sync suspend checksum inside"
SUMS = {"caller": 0.5, "unary+": 4.0, "codec_client": 0.5, "session_client+": 2.0, "wire_client": 1.0, "link": 0.25, "wire_server": 1.0}
STACK = "pick_few attempt_few purse_few stack_few pick_many stack_many change"
SUMS |= dict.fromkeys(STACK.split(), 1.0)
SUMS |= {"codec_server": 0.5, "server+": 4.0, "handler_task+": 1.0, "handler": 0.25, "wake_up": 0.5, "bare": 2.0}


def handmade(base: float = 10.0, **features: float) -> dict[str, float]:
    """One round's figures, where all features cost nothing but those that are named."""
    return SUMS | {"base": base} | {feature.key: features.get(feature.key, 0.0) for feature in FEATURES}


def by_key(made: list[layers.Row]) -> dict[tuple[str, str], layers.Row]:
    return {(each.part, each.key): each for each in made}


def test_every_row_is_there_with_its_rounds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "layers.json"
    assert layers.main(["--rounds", str(ROUNDS), "--calls", str(CALLS), "--json", str(file)]) == 0
    said: dict[str, Any] = json.loads(file.read_text("utf-8"))
    rows = said["rows"]
    assert [each["key"] for each in rows if each["part"] == "layer"] == LAYERS.split()
    assert [each["key"] for each in rows if each["part"] == "whole"] == WHOLES.split()
    assert [each["key"] for each in rows if each["part"] == "stack"] == STACK.split()
    assert all(each["us"] > 0 for each in rows if each["part"] == "stack")
    assert [each["key"] for each in rows if each["part"] == "feature"] == ["base", *ADDED.split()]
    whole = next(each for each in rows if each["key"] == "whole")
    assert whole["us"] > 0
    for each in rows:
        assert len(each["rounds"]) == ROUNDS
        assert each["least"] <= each["us"] <= each["greatest"]
    assert said["about"]["in_flight"] == IN_FLIGHT
    assert said["about"]["rounds"] == ROUNDS
    printed = capsys.readouterr()
    for each in rows:
        assert each["name"] in printed.out
        assert f"{each['us']:.2f}" in printed.out
    assert said["about"]["yardstick_sha256"] in printed.out
    assert f"round {ROUNDS}/{ROUNDS}" in printed.err


def test_what_a_layer_stands_on_is_taken_away_and_nothing_is_counted_twice() -> None:
    made = by_key(layers.rows([handmade()]))
    assert made["layer", "unary"].us == pytest.approx(1.5)  # 4 less the session's 2 and the codec's 0.5
    assert made["layer", "session_client"].us == pytest.approx(1.0)
    assert made["layer", "session_server"].us == pytest.approx(1.5)
    assert made["layer", "handler_task"].us == pytest.approx(0.75)
    # what was measured together is there once: the caller, all of the client, the link, all of the server, the wake-up
    assert made["whole", "sum"].us == pytest.approx(0.5 + 4.0 + 0.25 + 4.0 + 0.5)
    assert made["whole", "rest"].us == pytest.approx(10.0 - 9.25)
    assert made["whole", "over_bare"].us == pytest.approx(8.0)


async def test_a_feature_is_what_it_adds_to_the_same_call_without_it_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([10.0, 14.0, 18.0, 12.0])
    asked: list[tuple[str, int]] = []

    @asynccontextmanager
    async def opened(feature: Feature) -> AsyncIterator[Callable[[int], Awaitable[float]]]:
        async def measured(calls: int) -> float:
            asked.append((feature.key, calls))
            return next(took)

        yield measured

    monkeypatch.setattr(layer_features, "opened", opened)
    metadata = next(feature for feature in FEATURES if feature.key == "metadata")
    assert await layer_features.more(metadata, 200) == (14.0 + 18.0) / 2 - (10.0 + 12.0) / 2
    assert asked == [("by_name", 100), ("metadata", 100), ("metadata", 100), ("by_name", 100)]


def test_a_feature_has_the_median_of_its_rounds_and_says_what_it_is_more_than() -> None:
    rounds = [handmade(metadata=3.0), handmade(20.0, metadata=7.0), handmade(metadata=5.0)]
    made = by_key(layers.rows(rounds))
    metadata = made["feature", "metadata"]
    assert (metadata.us, metadata.least, metadata.greatest, metadata.rounds) == (5.0, 3.0, 7.0, [3.0, 7.0, 5.0])
    assert metadata.over == made["feature", "by_name"].name
    assert made["feature", "by_name"].over == "the base"
    assert (made["feature", "base"].us, made["feature", "base"].over) == (10.0, "")
    text = "\n".join(table.text() for table in layers.tables(layers.rows(rounds)))
    assert "+5.00" in text
    assert "+3.00 – +7.00" in text


async def test_rounds_alternate(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    async def parts(calls: int) -> dict[str, float]:
        order.append("parts")
        return dict(SUMS)

    async def whole(calls: int) -> float:
        order.append("whole")
        return 1.0

    async def bare(calls: int) -> float:
        order.append("bare")
        return 1.0

    async def more(feature: Feature, calls: int) -> float:
        order.append(feature.key)
        return 1.0

    for name, fake in (("layers", parts), ("whole", whole), ("bare", bare), ("more", more)):
        monkeypatch.setattr(layers, name, fake)
    for backwards in (False, True):
        await layers.one_round(CALLS, backwards=backwards, tell=lambda text: None)
    there, back = order[: len(order) // 2], order[len(order) // 2 :]
    assert there == ["parts", "whole", "bare", *(feature.key for feature in FEATURES)]
    assert back == there[::-1]


@pytest.mark.parametrize("feature", [BASE, *FEATURES], ids=lambda feature: feature.key)
async def test_replies_are_compared(feature: Feature) -> None:
    """Whatever the way of calling: one that answers wrongly gives no figure."""

    def wrong(client: Client) -> Any:
        real = feature.ask(client)

        async def ask(*args: Any, **kwargs: Any) -> Any:
            reply = await real(*args, **kwargs)
            return Echo(reply.a + 1, reply.s) if isinstance(reply, Echo) else reply + 1

        return ask

    async with layer_features.opened(feature) as measured:
        assert await measured(IN_FLIGHT) > 0
    with pytest.raises(WrongReply):
        async with layer_features.opened(dataclasses.replace(feature, ask=wrong)):
            pass


async def arrived(feature: Feature, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the server saw of the calls made in that way."""
    seen: list[dict[str, Any]] = []
    real = ResponderSession._called

    def called(session: ResponderSession, call: Any, now: float) -> None:
        name = call.method.decode().removeprefix("bench.")
        seen.append({"name": name, "metadata": call.metadata, "wants": call.wants, "ms": call.deadline_ms, "checked": session.conn.checked})
        real(session, call, now)

    monkeypatch.setattr(ResponderSession, "_called", called)
    async with layer_features.opened(feature):
        return seen


PLAIN = {"name": "echo", "metadata": None, "wants": False, "checked": False}
DEFAULT_MS = 1000 * (ClientConfig().deadline_s or 0)
DIFFERENT: dict[str, dict[str, Any]] = {
    "trailers": {"wants": True},
    "arguments": {"name": "three"},
    "context": {"name": "with_context"},
    "sync": {"name": "plain"},
    "suspend": {"name": "suspend"},
    "checksum": {"checked": True},
    "metadata": {"metadata": msgspec.msgpack.encode(layer_features.METADATA)},
}


@pytest.mark.parametrize("feature", [BASE, *FEATURES], ids=lambda feature: feature.key)
async def test_a_feature_is_on_and_no_other(feature: Feature, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = await arrived(feature, monkeypatch)
    found = seen[-1]
    left_ms = found.pop("ms")
    assert found == PLAIN | DIFFERENT.get(feature.key, {})
    assert ("relay" in [each["name"] for each in seen]) == (feature.key == "inside")
    own_ms = 1000 * layer_features.DEADLINE_S + 1  # a deadline travels rounded up
    least_ms, most_ms = {"no_deadline": (0, 0), "deadline": (1, own_ms)}.get(feature.key, (own_ms + 1, DEFAULT_MS + 1))
    assert least_ms <= left_ms <= most_ms
    emit = feature.options().get("emit")
    assert (emit is not None) == (feature.key == "metrics")
    if emit is not None:
        assert wants(emit, CallEnded)


async def test_parts_that_do_not_do_the_work_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = layer_parts.Kept.take
    monkeypatch.setattr(layer_parts.Kept, "take", lambda kept: taken(kept)[1:])  # a write is lost on its way
    with pytest.raises(RuntimeError, match="expected 64 futures that are done"):
        await layer_parts.layers(IN_FLIGHT)


@pytest.mark.parametrize("words", [["--rounds", "0"], ["--calls", "63"]])
def test_a_run_of_nothing_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        layers.main(words)
    assert "must be at least" in capsys.readouterr().err


@pytest.mark.parametrize("count", [layer_stack.FEW, layer_stack.MANY])
def test_the_stack_that_is_measured_is_the_real_one(count: int) -> None:
    """Each machine has counted every call, as it counts them on the merged way."""
    machines = layer_stack.Machines(count)
    calls = 2 * count
    before = [(node.attempts, node.gate.good) for node in machines.nodes]
    for drive in (layer_stack.pick, layer_stack.attempt, layer_stack.purse):
        drive(machines, 1.0, calls)
    assert [(node.attempts, node.gate.good) for node in machines.nodes] == [(attempts + 2, good + 2) for attempts, good in before]
    assert all(node.pending == 0 for node in machines.nodes)
    assert (machines.budget.calls, machines.throttle.accepts) == (calls, calls)
