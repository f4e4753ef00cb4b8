"""The breaker: its two signals, its one probe and its eras; against the model, in golden traces, and cancelled everywhere."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError, HoldfastError, InternalError, InvalidArgument, OutcomeUnknown, Overloaded, Unavailable
from holdfast.facts import BreakerChanged, CallHeldBack, Fact, discard
from holdfast.handler import MethodInfo, Mode, Reply, Request
from holdfast.policy.breaker import STRAY, Breaker, BreakerConfig, breaker_layer
from holdfast.policy.classify import BreakerSignal
from holdfast.sim.cancelling import Cut, cancel_everywhere
from holdfast.sim.world import World
from tests.policy.models import breaker as reference
from tests.policy.models.golden import FOLDER, Trace, as_text, read

SIGNALS: dict[str, BreakerSignal] = {"success": "success", "failure": "failure", "overload": "overload", "ignore": "ignore"}
HALF = [0.5]


class Dice(random.Random):
    """Throws what it is told to, over and over."""

    def __init__(self, draws: list[float]) -> None:
        super().__init__(0)
        self._draws = draws
        self._thrown = 0

    def uniform(self, a: float, b: float) -> float:
        self._thrown += 1
        return a + (b - a) * self._draws[(self._thrown - 1) % len(self._draws)]


def make(mode: Mode = "enforce", draws: list[float] = HALF, emit: Any = discard, **config: Any) -> Breaker:
    return Breaker("n1", BreakerConfig(mode=mode, **config), Dice(draws), emit)


def tripped(mode: Mode = "enforce", emit: Any = discard) -> Breaker:
    """Open from 0.0 until 3.75."""
    breaker = make(mode, emit=emit)
    for _ in range(5):
        breaker.failed(0.0, breaker.era)
    return breaker


# -------------------------------------------------------------------------------------------------------------- the table


@pytest.mark.parametrize(
    ("ends", "opens"),
    [
        ("ffff", False),
        ("fffff", True),
        ("ffffsf", False),
        ("ffffiif", True),  # what says nothing does not end a row
        ("ooooo", False),  # a busy node is not a dead one
        ("ffffoof", True),
        ("s" * 15 + "fff", False),  # 18 calls are too few to judge by
        ("s" * 14 + "fsfsffsff", True),  # 16 of 22
        ("ssssf" * 20, False),  # just 80 %
        ("ssf" * 7, True),
        ("o" * 19, False),
        ("o" * 20, True),
        ("sf" * 9 + "s", False),
        ("sf" * 10, True),
        ("sf" * 9 + "ss", False),  # 55 % of 20, but a success never shuts a node
    ],
)
def test_what_trips_it(ends: str, opens: bool) -> None:
    breaker = make()
    for letter in ends:
        breaker.ended(1.0, breaker.era, next(SIGNALS[name] for name in SIGNALS if name[0] == letter))
    assert (breaker.state == "open") is opens
    assert breaker.shut is opens


def test_how_long_it_stays_open_doubles_with_each_failed_probe_up_to_the_cap() -> None:
    breaker, now, open_s = tripped(), 0.0, list[float]()
    for _ in range(9):
        open_s.append(breaker.retry_at - now)
        now = breaker.retry_at
        breaker.failed(now, breaker.enter(now))
    assert open_s == [3.75, 7.5, 15.0, 30.0, 60.0, 120.0, 225.0, 225.0, 225.0]


def test_a_probe_that_succeeds_forgets_everything() -> None:
    breaker = tripped()
    breaker.failed(10.0, breaker.enter(10.0))
    breaker.succeeded(30.0, breaker.enter(30.0))
    assert (breaker.state, breaker.shut, breaker.retry_at, breaker.good, breaker.bad, breaker.row) == ("closed", False, 0.0, 0, 0, 0)
    for _ in range(5):
        breaker.failed(31.0, breaker.era)
    assert breaker.retry_at == 31.0 + 3.75


@pytest.mark.parametrize("signal", ["failure", "overload"])
def test_a_probe_fails_by_a_refusal_for_load_too(signal: BreakerSignal) -> None:
    breaker = tripped()
    breaker.ended(4.0, breaker.enter(4.0), signal)
    assert (breaker.state, breaker.retry_at) == ("open", 4.0 + 7.5)


@pytest.mark.parametrize("signal", ["ignore", "connect_failure"])
def test_a_probe_that_says_nothing_lets_the_next_one_in_at_once(signal: BreakerSignal) -> None:
    breaker = tripped()
    breaker.ended(4.0, breaker.enter(4.0), signal)
    assert (breaker.state, breaker.shut, breaker.retry_at) == ("open", True, 4.0)
    breaker.succeeded(4.5, breaker.admit(4.0))
    assert breaker.state == "closed"


def test_a_closed_breaker_wants_no_probe() -> None:
    breaker = make()
    assert not breaker.probe(1e9)
    assert (breaker.state, breaker.enter(1e9)) == ("closed", breaker.era)


def test_there_is_one_token_and_the_attempt_after_the_probe_gets_it() -> None:
    breaker = tripped()
    assert not breaker.probe(3.7)
    assert breaker.probe(3.75)
    assert not breaker.probe(3.75)
    assert (breaker.shut, breaker.retry_at) == (True, math.inf)
    era = breaker.enter(3.75)
    assert era not in (0, STRAY)
    assert [breaker.enter(3.75), breaker.enter(1e9)] == [STRAY, STRAY]
    assert breaker.admit(1e9) == 0
    breaker.succeeded(5.0, era)
    assert breaker.state == "closed"


def test_what_began_in_another_era_is_not_counted() -> None:
    breaker = make()
    old = breaker.era
    for _ in range(5):
        breaker.failed(0.0, old)
    stray = breaker.enter(0.0)
    probe = breaker.enter(4.0)
    for era in (old, stray):
        breaker.succeeded(4.0, era)
        breaker.failed(4.0, era)
        breaker.released(4.0, era)
        assert (breaker.state, breaker.retry_at) == ("probing", math.inf)
    breaker.succeeded(4.0, probe)
    for era in (old, stray, probe):
        for _ in range(9):
            breaker.failed(4.0, era)
        breaker.succeeded(4.0, era)
        breaker.released(4.0, era)
    assert (breaker.state, breaker.good, breaker.bad) == ("closed", 0, 0)


def test_the_only_node_is_never_shut_but_counted() -> None:
    changes: list[tuple[bool, float]] = []
    breaker = tripped()
    breaker.on_change = lambda _: changes.append((breaker.shut, breaker.retry_at))
    breaker.alone(True)
    breaker.alone(True)
    assert (breaker.shut, breaker.state, breaker.enforced) == (False, "open", False)
    assert [breaker.admit(1.0), breaker.admit(2.0)] == [STRAY, STRAY]
    assert (breaker.would, breaker.held) == (2, 0)
    breaker.alone(False)
    assert (breaker.shut, breaker.admit(3.0)) == (True, 0)
    breaker.succeeded(4.0, breaker.admit(4.0))
    assert changes == [(False, 3.75), (True, 3.75), (True, math.inf), (False, 0.0)]


def test_shadow_stays_shadow_when_there_are_others() -> None:
    breaker = tripped("shadow")
    breaker.alone(False)
    assert (breaker.shut, breaker.enforced, breaker.state) == (False, False, "open")


def test_off_never_trips() -> None:
    breaker = make("off")
    for _ in range(100):
        breaker.failed(0.0, breaker.era)
    assert (breaker.state, breaker.shut, breaker.trips) == ("closed", False, 0)


def test_it_says_what_it_does() -> None:
    facts: list[Fact] = []
    breaker = tripped(emit=facts.append)
    breaker.released(4.0, breaker.enter(4.0))
    breaker.failed(5.0, breaker.enter(5.0))
    breaker.succeeded(50.0, breaker.enter(50.0))
    for _ in range(10):
        breaker.succeeded(51.0, breaker.era)
        breaker.failed(51.0, breaker.era)
    shown = [(fact.node, fact.state, fact.reason, fact.open_s, fact.enforced) for fact in facts if isinstance(fact, BreakerChanged)]
    assert shown == [
        ("n1", "open", "5 failures in a row", 3.75, True),
        ("n1", "probing", "its time is up", 0.0, True),
        ("n1", "open", "the probe was given up", 0.0, True),
        ("n1", "probing", "its time is up", 0.0, True),
        ("n1", "open", "a probe that failed", 7.5, True),
        ("n1", "probing", "its time is up", 0.0, True),
        ("n1", "closed", "the probe succeeded", 0.0, True),
        ("n1", "open", "10 of 20 calls succeeded in the last 30 s", 3.75, True),
    ]
    assert len(facts) == len(shown)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "on"),
        ("in_row", 0),
        ("calls_min", 0),
        ("buckets", 0),
        ("success_share", 1.5),
        ("success_share", -0.1),
        ("success_share", math.nan),
        ("window_s", 0.0),
        ("window_s", math.inf),
        ("open_base_s", 0.0),
        ("open_cap_s", 1.0),
        ("open_cap_s", math.inf),
    ],
)
def test_a_configuration_that_cannot_work_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field}={value!r}"):
        BreakerConfig(**{field: value})


# ------------------------------------------------------------------------------------------------- the model and golden traces


class Replay:
    """Plays a trace on the real machine, in one of the ways it may be used."""

    def __init__(self, way: str, draws: list[float]) -> None:
        self.way = way
        self.breaker = make("shadow" if way == "shadow" else "enforce", draws)
        self.breaker.alone(way == "alone")
        self.eras: dict[int, int] = {}
        self.told: list[tuple[bool, float]] = [(False, 0.0)]
        self.breaker.on_change = lambda _: self.told.append((self.breaker.shut, self.breaker.retry_at))

    def decide(self, event: list[Any]) -> str:
        what, at, call, *how = event
        breaker = self.breaker
        if what == "begin":
            was_closed = breaker.state == "closed"
            era = self._goes_in(at)
            if era:
                self.eras[call] = era
            return "go" if was_closed else "probe" if era > 0 else "held"
        era = self.eras.pop(call, 0)
        if era:
            self._ends(at, era, SIGNALS[how[0]])
        assert self.told[-1] == (breaker.shut, breaker.retry_at), "a change that nobody was told of"
        return breaker.state

    def _goes_in(self, at: float) -> int:
        breaker = self.breaker
        if self.way == "balanced":  # as a balancer asks: it sees `shut`, and takes the token apart from the attempt's beginning
            if breaker.shut and not (breaker.retry_at <= at and breaker.probe(at)):
                breaker.held += 1
                return 0
            return breaker.era or breaker.enter(at)
        return breaker.admit(at)

    def _ends(self, at: float, era: int, signal: BreakerSignal) -> None:
        breaker = self.breaker
        if self.way == "inline" and signal == "success":  # as the docstring says it may be written out
            if at >= breaker.rolls_at:
                breaker.roll(at)
            if era == breaker.era:
                breaker.good += 1
                breaker.row = 0
            else:
                breaker.succeeded(at, era)
        else:
            breaker.ended(at, era, signal)


WAYS = ("enforced", "shadow", "alone", "balanced", "inline")


def check(way: str, trace: Trace) -> None:
    replay = Replay(way, trace["config"]["draws"])
    for *event, decision in trace["events"]:
        assert replay.decide(event) == decision, event
    held, trips = trace["counted"]["held"], trace["counted"]["trips"]
    breaker = replay.breaker
    assert (breaker.held, breaker.would, breaker.trips) == ((0, held, trips) if way in ("shadow", "alone") else (held, 0, trips))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", reference.STORIES)
def test_a_golden_trace_is_decided_alike_and_shadow_counts_what_is_held(name: str, way: str) -> None:
    check(way, read(f"breaker_{name}.json"))


@pytest.mark.parametrize(("name", "trace"), list(reference.traces()), ids=reference.STORIES)
def test_a_golden_trace_is_what_the_model_says(name: str, trace: Trace) -> None:
    assert (FOLDER / f"breaker_{name}.json").read_text("utf-8") == as_text(trace)


def test_the_golden_traces_show_every_decision() -> None:
    seen = {event[-1] for _, trace in reference.traces() for event in trace["events"]}
    assert seen == {"go", "probe", "held", "closed", "open", "probing"}


one_move = st.tuples(st.sampled_from([0, 0, 1, 2, 4, 24, 100]), st.booleans(), st.integers(0, 9), st.sampled_from("sssfffoi"))


@given(
    st.lists(one_move, max_size=150),
    st.lists(st.integers(0, 8).map(lambda n: n / 8), min_size=1, max_size=5),
    st.sampled_from(WAYS),
)
def test_it_decides_as_the_model_does(moves: list[tuple[int, bool, int, str]], draws: list[float], way: str) -> None:
    story, under_way = reference.Story(), list[int]()
    for eighths, begins, which, end in moves:
        story.wait(eighths / 8)
        if begins or not under_way:
            under_way.append(story.begin())
        else:
            story.end(under_way.pop(which % len(under_way)), next(name for name in reference.ENDS if name[0] == end))
    check(way, reference.trace_of("", story.events, draws))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 30)), max_size=200))
def test_no_history_gives_two_probes_or_loses_the_token(moves: list[tuple[int, int]]) -> None:
    breaker, now, eras = make(in_row=2, calls_min=3), 0.0, list[int]()
    for kind, which in moves:
        now += (0.0, 0.5, 4.0)[which % 3]
        if kind < 6:
            eras.append(breaker.era or breaker.enter(now))
        elif eras:
            breaker.ended(now, eras.pop(which % len(eras)), ("success", "failure", "failure", "overload", "ignore")[kind % 5])
        current = [era for era in eras if era == breaker._token]
        assert len(current) == (breaker.state == "probing")
        assert breaker.shut is (breaker.state != "closed")
        assert (breaker.era > 0) is (breaker.state == "closed")
        assert (breaker.retry_at == math.inf) is (breaker.state == "probing")


# ---------------------------------------------------------------------------------------------------------------- the layer


class Handler:
    """Fails as it is told to, then answers."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    async def __call__(self, request: Request) -> Reply:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return Reply(b"done")


def request() -> Request:
    return Request(MethodInfo("shop.place"), b"", False, None, 1)


async def outcome(handler: Any) -> str:
    try:
        return str((await handler(request())).body, "ascii")
    except HoldfastError as error:
        return f"{type(error).__name__}: {error.message}"


async def test_the_layer_keeps_calls_out_and_lets_one_try() -> None:
    facts: list[Fact] = []
    now = [10.0]
    breaker = make(emit=facts.append)
    handler = Handler(*[InternalError("broken", remote=True)] * 5)
    send = breaker_layer(breaker, lambda: now[0], facts.append)(handler)
    assert [await outcome(send) for _ in range(5)] == ["InternalError: broken"] * 5
    now[0] = 12.0
    with pytest.raises(Unavailable) as refused:
        await send(request())
    assert refused.value.message == (
        "the breaker of n1 opened after 5 failures in a row 2.0 s ago; the call was not sent, try again in 1.8 s"
    )
    assert (refused.value.executed, refused.value.retry, refused.value.retry_after_s) == ("no", "safe", 1.75)
    assert CallHeldBack("shop.place", "breaker") in facts
    now[0] = 13.75
    assert [await outcome(send), await outcome(send)] == ["done", "done"]
    assert (handler.calls, breaker.held, breaker.state) == (7, 1, "closed")


async def test_while_the_probe_is_under_way_the_refusal_says_so() -> None:
    breaker = tripped()
    assert breaker.probe(4.0)
    breaker.enter(4.0)
    with pytest.raises(Unavailable, match="and a probe is under way") as refused:
        await breaker_layer(breaker, lambda: 5.0)(Handler())(request())
    assert refused.value.retry_after_s is None


async def test_in_shadow_the_layer_sends_all_and_says_which_it_would_not_have() -> None:
    facts: list[Fact] = []
    handler = Handler()
    breaker = tripped("shadow")
    send = breaker_layer(breaker, lambda: 1.0, facts.append)(handler)
    assert [await outcome(send) for _ in range(3)] == ["done"] * 3
    assert (handler.calls, breaker.would, breaker.state) == (3, 3, "open")
    assert facts == [CallHeldBack("shop.place", "breaker", False)] * 3


async def test_a_layer_that_is_off_is_not_there() -> None:
    handler = Handler()
    assert breaker_layer(make("off"), lambda: 0.0)(handler) is handler


def connecting() -> Unavailable:
    error = Unavailable("refused")
    error.connecting = True
    return error


@pytest.mark.parametrize(
    ("error", "bad", "row"),
    [
        (InternalError(remote=True), 1, 1),
        (OutcomeUnknown(), 1, 1),
        (Overloaded(remote=True), 1, 0),
        (Overloaded(), 0, 0),
        (connecting(), 0, 0),
        (KeyError("a bug"), 0, 0),
        (asyncio.CancelledError(), 0, 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
async def test_the_layer_counts_by_the_outcome_table(error: BaseException, bad: int, row: int) -> None:
    breaker = make()
    with pytest.raises(type(error)):
        await breaker_layer(breaker, lambda: 0.0)(Handler(error))(request())
    assert (breaker.good, breaker.bad, breaker.row) == (0, bad, row)


async def test_an_error_of_the_callers_own_is_a_success_of_the_node() -> None:
    breaker = make()
    with pytest.raises(InvalidArgument):
        await breaker_layer(breaker, lambda: 0.0)(Handler(InvalidArgument(remote=True)))(request())
    assert (breaker.good, breaker.bad) == (1, 0)


@pytest.mark.parametrize("opened", [True, False])
def test_a_cancel_anywhere_gives_the_token_back(opened: bool) -> None:
    async def scenario(world: World, cut: Cut[Any]) -> None:
        loop = asyncio.get_running_loop()

        async def slow(_request: Request) -> Reply:
            for _ in range(3):
                await asyncio.sleep(0.1)
            return Reply(b"done")

        breaker = tripped() if opened else make()
        await asyncio.sleep(4.0)
        await cut(breaker_layer(breaker, loop.time)(slow)(request()))  # type: ignore[arg-type]
        assert breaker.state == ("open" if opened and cut.happened else "closed")
        assert (breaker.good, breaker.bad) == (0 if opened or cut.happened else 1, 5 if opened and cut.happened else 0)
        breaker.ended(loop.time(), breaker.admit(loop.time()), "success")
        assert breaker.state == "closed"

    assert cancel_everywhere(scenario) == 3
