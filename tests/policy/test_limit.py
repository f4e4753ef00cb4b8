"""The concurrency limit: slots, queues and bulkheads against the model, in golden traces, waited for, and cancelled everywhere."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError, DeadlineExceeded, InternalError, Overloaded
from holdfast.facts import CallHeldBack, Fact, LimitChanged, discard
from holdfast.handler import MethodInfo, Mode, Reply, Request
from holdfast.policy.limit import LimitConfig, Limiter, Slots, Turn, limit_layer
from holdfast.sim.cancelling import Cut, cancel_everywhere
from holdfast.sim.world import World
from tests.policy.models import limit as reference
from tests.policy.models.golden import FOLDER, Trace, as_text, read


class Dice(random.Random):
    """Throws what it is told to, over and over."""

    def __init__(self, draws: list[float]) -> None:
        super().__init__(0)
        self._draws = draws
        self._thrown = 0

    def uniform(self, a: float, b: float) -> float:
        self._thrown += 1
        return a + (b - a) * self._draws[(self._thrown - 1) % len(self._draws)]


def make(mode: Mode = "enforce", emit: Any = discard, draws: tuple[float, ...] = (0.5,), **config: Any) -> Limiter:
    return Limiter(LimitConfig(mode=mode, **config), Dice(list(draws)), emit)


def is_whole(limiter: Limiter) -> bool:
    """Nobody has or waits for anything."""
    return all(slots.free == slots.limit and not slots.waiting for slots in (limiter.slots, *limiter.bulkheads.values()))


# --------------------------------------------------------------------------------------------------------------- the machine


def test_who_comes_first_goes_first() -> None:
    limiter = make(limit=1)
    assert limiter.take("a")
    turns = [limiter.queue("a", None) for _ in range(3)]
    turns[1].leave(0.0)
    limiter.give("a")
    assert [turn.stage for turn in turns] == ["holds", "left", "limit"]
    assert not limiter.take("a")
    turns[0].leave(0.0)
    turns[2].leave(0.0)
    assert is_whole(limiter)


def test_a_slot_is_given_back_once_however_often_its_owner_leaves() -> None:
    limiter = make(limit=1)
    assert limiter.take("a")
    turn = limiter.queue("a", None)
    limiter.give("a")
    for _ in range(3):
        turn.leave(0.0)
        turn.expire()
    assert is_whole(limiter)
    assert (limiter.held, turn.stage) == (0, "left")


def test_a_smaller_limit_takes_nothing_away_and_a_larger_one_lets_those_in_who_wait() -> None:
    limiter = make(limit=3)
    assert [limiter.take("a") for _ in range(3)] == [True] * 3
    turns = [limiter.queue("a", None) for _ in range(4)]
    limiter.slots.resize(1)
    assert limiter.slots.free == -2
    limiter.give("a")
    limiter.give("a")
    assert [turn.stage for turn in turns] == ["limit"] * 4
    limiter.slots.resize(4)
    assert [turn.stage for turn in turns] == ["holds", "holds", "holds", "limit"]
    limiter.give("a")
    assert turns[3].stage == "holds"
    for turn in turns:
        turn.leave(0.0)
    assert is_whole(limiter)


def test_what_waits_for_its_bulkhead_holds_no_slot_that_others_could_use() -> None:
    limiter = make(limit=3, per_method={"slow": 1})
    assert limiter.take("slow")
    waiting = [limiter.queue("slow", None) for _ in range(5)]
    assert [turn.stage for turn in waiting] == ["bulkhead"] * 5
    assert [limiter.take("quick"), limiter.take("quick"), limiter.take("quick")] == [True, True, False]


def test_a_slot_of_a_bulkhead_that_cannot_be_used_goes_on_to_nobody_and_is_not_lost() -> None:
    limiter = make(limit=1, queue_max=1000, per_method={"a": 1})
    assert limiter.take("a")
    crowd = [limiter.queue("a", None) for _ in range(1000)]
    limiter.slots.queue_max = 0
    limiter.slots.resize(0)
    limiter.give("a")  # each of them comes to the full limit in turn, and is refused there: 1,000 of them, and no deep stack
    assert {(turn.stage, turn.by) for turn in crowd} == {("refused", "limit")}
    limiter.slots.resize(1)
    assert is_whole(limiter)
    assert limiter.held == 1000


@pytest.mark.parametrize(
    ("by", "config", "message"),
    [
        ("limit", {}, "a was not sent: all 1 slots of this client's limit are taken and 2 calls wait for one (queue_max=2)"),
        ("bulkhead", {"limit": 9, "per_method": {"a": 1}}, "a was not sent: all 1 slots of the bulkhead of a are taken and 2 calls wait"),
    ],
)
async def test_a_refusal_names_the_limit_and_the_queue(by: str, config: dict[str, Any], message: str) -> None:
    facts: list[Fact] = []
    limiter = make(emit=facts.append, **{"limit": 1, "queue_max": 2, **config})
    assert limiter.take("a")
    for _ in range(2):
        limiter.queue("a", None)
    with pytest.raises(Overloaded) as refused:
        await limiter.wait("a", None)
    assert refused.value.message.startswith(message)
    assert (refused.value.executed, refused.value.retry, refused.value.remote) == ("no", "safe", False)
    assert (facts, limiter.held) == ([CallHeldBack("a", by)], 1)


def test_an_adaptive_limit_tells_when_it_moved_by_a_tenth() -> None:
    facts: list[Fact] = []
    limiter = make(emit=facts.append, kind="aimd", limit_min=20, limit_max=30)
    assert limiter.slots.limit == 20
    for _ in range(15):
        assert limiter.take("a")
    for _ in range(12):
        limiter.learn(0.01, 0.0, "took")
    assert (limiter.slots.limit, limiter.slots.free) == (30, 15)
    assert facts == [LimitChanged(22), LimitChanged(25), LimitChanged(28)]
    limiter.learn(0.01, 0.0, "dropped")
    assert (limiter.slots.limit, facts[-1]) == (27, LimitChanged(28))


@pytest.mark.parametrize(
    ("sample", "rtt_s", "limit"),
    [("took", 0.01, 21), ("took", 6.0, 20), ("took_if_slow", 0.01, 20), ("took_if_slow", 5.0, 21), ("ignore", 0.01, 20)],
)
def test_an_adaptive_limit_learns_by_the_outcome_table(sample: Any, rtt_s: float, limit: int) -> None:
    limiter = make(kind="aimd")
    for _ in range(10):
        assert limiter.take("a")
    limiter.learn(rtt_s, 0.0, sample)
    assert limiter.slots.limit == limit


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "on"),
        ("kind", "magic"),
        ("limit", 0),
        ("limit_min", 0),
        ("limit_max", 19),
        ("queue_max", -1),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field}={value!r}"):
        LimitConfig(**{field: value})


def test_a_bulkhead_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"per_method\['a'\]=0"):
        LimitConfig(per_method={"a": 0})


def test_it_can_be_read() -> None:
    limiter = make(limit=2)
    limiter.take("a")
    assert repr(limiter.slots) == "<Slots 1 of 2 taken, 0 waiting>"


# ------------------------------------------------------------------------------------------------- the model and golden traces


class Replay:
    """Plays a trace on the real machine."""

    def __init__(self, mode: Mode, config: dict[str, Any]) -> None:
        known = {name: config[name] for name in ("kind", "limit", "limit_min", "limit_max", "queue_max", "per_method")}
        self.limiter = make(mode, draws=tuple(config["draws"]), **known)
        self.turns: dict[int, Turn | None] = {}
        self.methods: dict[int, str] = {}
        self.woken: list[int] = []

    def decide(self, event: list[Any]) -> list[Any]:
        what, at, number, *more = event
        before = {other: self._stage(other) for other in self.turns if other != number}
        self.woken.clear()
        if what == "begin":
            stage = self._begin(number, *more)
        else:
            stage = self._end(at, number, *more) if what == "end" else self._expire(number)
        others = [[other, self._stage(other)] for other, was in before.items() if self._stage(other) != was]
        for other, became in others:
            assert (other in self.woken) is (became != "limit"), "who waits is woken when that is over, and not before"
        slots = self.limiter.slots
        assert not (slots.free > 0 and slots.waiting), "a slot is free and somebody waits"
        return [stage, others, slots.limit]

    def _stage(self, number: int) -> str:
        turn = self.turns[number]
        return "holds" if turn is None else turn.stage

    def _begin(self, number: int, method: str, deadline_at: float | None) -> str:
        self.methods[number] = method
        if self.limiter.take(method):
            self.turns[number] = None
            return "holds"
        turn = self.turns[number] = self.limiter.queue(method, deadline_at)
        turn.wake = lambda: self.woken.append(number)
        return turn.stage

    def _end(self, at: float, number: int, how: Any, rtt_s: float) -> str:
        if self._stage(number) == "holds":
            self.limiter.learn(rtt_s, at, how)
        turn = self.turns[number]
        if turn is None:
            self.limiter.give(self.methods[number])
        else:
            turn.leave(at)
        del self.turns[number]
        return "left"

    def _expire(self, number: int) -> str:
        turn = self.turns[number]
        if turn is not None:
            turn.expire()
        return self._stage(number)


def check(mode: Mode, trace: Trace) -> None:
    replay = Replay(mode, trace["config"])
    for *event, decision in trace["events"]:
        assert replay.decide(event) == decision, event
    held = trace["counted"]["held"]
    assert (replay.limiter.held, replay.limiter.would) == ((held, 0) if mode == "enforce" else (0, held))


NAMES = ("fixed", "no_queue", "bulkheads", "aimd", "gradient", "vegas")


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
@pytest.mark.parametrize("name", NAMES)
def test_a_golden_trace_is_decided_alike_and_shadow_counts_what_is_held(name: str, mode: Mode) -> None:
    check(mode, read(f"limit_{name}.json"))


def test_the_golden_traces_are_what_the_model_says_and_show_everything() -> None:
    seen: set[str] = set()
    for name, trace in reference.traces():
        assert (FOLDER / f"limit_{name}.json").read_text("utf-8") == as_text(trace)
        assert trace["counted"]["held"] > 0
        seen.update(event[-1][0] for event in trace["events"])
        seen.update(stage for event in trace["events"] for _, stage in event[-1][1])
    assert seen == {"holds", "limit", "bulkhead", "refused", "expired", "left"}
    assert {name for name, _ in reference.traces()} == set(NAMES)


@given(
    st.integers(0, 2**32),
    st.integers(0, 60),
    st.sampled_from(["fixed", "fixed", "aimd"]),
    st.integers(1, 4),
    st.integers(0, 3),
    st.sampled_from([{}, {"a": 1}, {"a": 2, "b": 1}]),
    st.sampled_from(["enforce", "shadow"]),
)
def test_it_decides_as_the_model_does(
    seed: int, count: int, kind: str, limit: int, queue_max: int, per_method: dict[str, int], mode: Mode
) -> None:
    config = {"kind": kind, "limit": limit, "limit_min": 1, "limit_max": 6, "queue_max": queue_max, "per_method": per_method}
    check(mode, reference.trace_of("", config, reference.few(seed, count, "aabc")))


# ----------------------------------------------------------------------------------------------------- waiting, and the layer


def request(method: str = "a", deadline_at: float | None = None) -> Request:
    return Request(MethodInfo(method), b"", False, deadline_at, 1)


class Handler:
    """Answers, or fails, when it is told to; counts how many are with it."""

    def __init__(self) -> None:
        self.open: list[asyncio.Future[Reply]] = []
        self.most = 0

    async def __call__(self, request: Request) -> Reply:
        self.open.append(asyncio.get_running_loop().create_future())
        self.most = max(self.most, sum(not each.done() for each in self.open))
        return await self.open[-1]


def spawn(coroutine: Any) -> asyncio.Task[Reply]:
    assert isinstance(coroutine, Coroutine)
    return asyncio.get_running_loop().create_task(coroutine)


async def steps(count: int = 4) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.mark.both_loops
async def test_the_layer_lets_no_more_through_than_there_are_slots() -> None:
    loop = asyncio.get_running_loop()
    limiter, handler = make(limit=2, queue_max=3), Handler()
    send = limit_layer(limiter, loop.time)(handler)
    tasks = [spawn(send(request())) for _ in range(6)]
    await steps()
    assert len(handler.open) == 2
    with pytest.raises(Overloaded):
        await tasks[5]
    for number in range(5):
        handler.open[number].set_result(Reply(b"%d" % number))
        await steps()
    assert [(await task).body for task in tasks[:5]] == [b"0", b"1", b"2", b"3", b"4"]
    assert (handler.most, limiter.held) == (2, 1)
    assert is_whole(limiter)


@pytest.mark.both_loops
async def test_a_call_waits_no_longer_than_its_deadline() -> None:
    loop = asyncio.get_running_loop()
    limiter = make(limit=1)
    assert limiter.take("a")
    with pytest.raises(DeadlineExceeded, match="it waited until its deadline for one of the 1 slots of this client's limit") as late:
        await limiter.wait("a", loop.time() + 0.002)
    assert (late.value.executed, late.value.retry) == ("no", "safe")
    assert (limiter.held, len(limiter.slots.waiting)) == (1, 0)
    limiter.give("a")
    assert is_whole(limiter)


async def test_in_shadow_all_go_at_once_and_are_counted() -> None:
    loop = asyncio.get_running_loop()
    facts: list[Fact] = []
    limiter, handler = make("shadow", facts.append, limit=1, queue_max=1), Handler()
    send = limit_layer(limiter, loop.time)(handler)
    tasks = [spawn(send(request(deadline_at=0.0))) for _ in range(4)]
    await steps()
    assert len(handler.open) == 4
    for each in reversed(handler.open):
        each.set_result(Reply(b""))
    await asyncio.wait(tasks)
    assert (limiter.would, limiter.held) == (3, 0)
    assert facts == [CallHeldBack("a", "limit", False)] * 3
    assert is_whole(limiter)


async def test_a_layer_that_is_off_is_not_there() -> None:
    handler = Handler()
    assert limit_layer(make("off"), lambda: 0.0)(handler) is handler


@pytest.mark.parametrize(
    ("error", "limit"),
    [(None, 6), (Overloaded(remote=True), 4), (InternalError(remote=True), 5), (Overloaded(), 5), (KeyError("a bug"), 5)],
)
async def test_the_layer_teaches_an_adaptive_limit(error: Exception | None, limit: int) -> None:
    limiter = make(kind="aimd", limit_min=4, limit_max=9)
    taken = [limiter.take("a") for _ in range(2)]
    assert taken == [True, True]
    limiter.learn(0.01, 0.0, "took")

    async def handler(_request: Request) -> Reply:
        if error is not None:
            raise error
        return Reply(b"")

    with pytest.raises(type(error)) if error is not None else nullcontext():
        await limit_layer(limiter, lambda: 1.0)(handler)(request())
    assert limiter.slots.limit == limit
    for _ in taken:
        limiter.give("a")
    assert is_whole(limiter)


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
@pytest.mark.parametrize("per_method", [{}, {"a": 1}, {"a": 2}])
@pytest.mark.parametrize("kind", ["fixed", "aimd"])
def test_a_cancel_anywhere_gives_back_what_was_taken(mode: Mode, per_method: dict[str, int], kind: str) -> None:
    async def scenario(world: World, cut: Cut[Any]) -> None:
        loop = asyncio.get_running_loop()
        limiter = make(mode, kind=kind, limit=1, limit_min=1, limit_max=1, per_method=per_method)

        async def slow(_request: Request) -> Reply:
            for _ in range(2):
                await asyncio.sleep(0.1)
            return Reply(b"")

        send = limit_layer(limiter, loop.time)(slow)
        before, after = (spawn(send(request(method))) for method in ("a", "b"))
        await asyncio.sleep(0.05)
        await cut(send(request("a", loop.time() + 60)))  # type: ignore[arg-type]
        late = spawn(send(request("a")))
        await asyncio.wait([before, after, late])
        assert all(task.exception() is None for task in (before, after, late))
        assert is_whole(limiter)
        assert (limiter.held, limiter.would) == (0, 0)

    assert cancel_everywhere(scenario) == (3 if mode == "enforce" else 2)


def test_giving_a_slot_that_nobody_waits_for_is_an_addition() -> None:
    slots = Slots(3, 9)
    slots.free -= 1
    slots.give()
    assert slots.free == 3
