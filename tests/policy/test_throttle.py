"""The throttle: against the model that remembers every call, on golden traces, in shadow, through an outage and back, and its layer."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError, DeadlineExceeded, InternalError, Overloaded, Refused, Unavailable
from holdfast.facts import CallHeldBack, Fact
from holdfast.handler import MethodInfo, Mode, Reply, Request
from holdfast.policy.classify import OUTCOMES
from holdfast.policy.throttle import Throttle, ThrottleConfig, throttle_layer
from holdfast.sim import Cut, World, cancel_everywhere
from tests.policy.models import golden
from tests.policy.models.throttle import ThrottleModel

TRACES = golden.named("throttle")


class Die(random.Random):
    """Dice that show what they are told."""

    face = 0.0

    def random(self) -> float:
        return self.face


# ---------------------------------------------------------------------------------------------------------- golden traces


def replayed(trace: golden.Trace, mode: Mode, *, skip_when_calm: bool) -> tuple[Throttle, list[list[Any]]]:
    """The throttle after a trace, and the trace with its decisions: for a call in shadow, whether it would have gone out."""
    throttle, die = Throttle(ThrottleConfig(mode=mode, **trace["config"])), Die()
    decided: list[list[Any]] = []
    gone: dict[int, None] = {}
    for what, at, *more in trace["events"]:
        if what == "begin":
            call, die.face, _ = more
            would = throttle.would
            admitted = (skip_when_calm and throttle.calm) or throttle.admit(at, die)
            assert admitted or mode == "enforce"
            if not admitted or throttle.would != would:
                gone[call] = None
            decided.append([what, at, call, die.face, call not in gone])
        elif what == "end":
            call, outcome = more
            if call not in gone and outcome != "nothing":
                getattr(throttle, outcome)(at)
            decided.append([what, at, *more])
        else:
            decided.append([what, at, round(throttle.chance(at), 9)])
    return throttle, decided


@pytest.mark.parametrize("skip_when_calm", [False, True])
@pytest.mark.parametrize("name", TRACES)
def test_it_decides_as_the_golden_trace_does(name: str, skip_when_calm: bool) -> None:
    trace = golden.read(name)
    throttle, decided = replayed(trace, "enforce", skip_when_calm=skip_when_calm)
    assert decided == trace["events"]
    assert ({"held": throttle.held}, throttle.would) == (trace["counted"], 0)


@pytest.mark.parametrize("name", TRACES)
def test_in_shadow_it_would_have_held_back_what_it_holds_back_and_holds_nothing(name: str) -> None:
    trace = golden.read(name)
    throttle, decided = replayed(trace, "shadow", skip_when_calm=True)
    assert decided == trace["events"]
    assert ({"held": throttle.would}, throttle.held) == (trace["counted"], 0)


def test_the_traces_hold_back() -> None:
    assert sum(golden.read(name)["counted"]["held"] > 0 for name in TRACES) == 3


# -------------------------------------------------------------------------------------------------------- against the model

MOVES = st.lists(
    st.tuples(
        st.sampled_from(["admit", "accepted", "not_accepted"]), st.integers(0, 64 * 4), st.integers(1, 40), st.floats(0, 1, width=16)
    ),
    max_size=40,
)
SMALL = {"window_s": 12.0, "requests_per_accept": 1.5, "held_back_max": 0.5, "calls_min_per_s": 2.0, "recovered_after": 8}


@given(MOVES, st.sampled_from([{}, SMALL]), st.integers(0, 64 * 30))
def test_it_is_the_model(moves: list[tuple[str, int, int, float]], config: dict[str, Any], start: int) -> None:
    machine, model, die = Throttle(ThrottleConfig(**config)), ThrottleModel(**config), Die()
    now = start / 64
    for what, wait, times, die.face in moves:
        now += wait / 64
        for _ in range(times):
            if what == "admit":
                assert machine.admit(now, die) == model.admit(now, die.face)
            else:
                getattr(machine, what)(now)
                getattr(model, what)(now)
            assert machine.calm == model.calm
        assert machine.chance(now) == pytest.approx(model.chance(now), abs=1e-12)
    assert machine.held == model.held


@given(MOVES)
def test_while_it_is_calm_it_would_hold_nothing_back(moves: list[tuple[str, int, int, float]]) -> None:
    """So the hot path may leave `admit` out. Only a call that is not accepted ends the calm."""
    throttle, die, now = Throttle(ThrottleConfig(**SMALL)), Die(), 5.0  # type: ignore[arg-type]
    for what, wait, times, die.face in moves:
        now += wait / 64
        for _ in range(times):
            before = throttle.calm
            if what == "admit":
                throttle.admit(now, die)
            else:
                getattr(throttle, what)(now)
            if what == "accepted" and before:
                assert throttle.calm
            elif what != "admit":  # one that is held back counts after it was decided
                assert throttle.calm == (throttle.chance(now) == 0.0)


@given(MOVES)
def test_the_hot_path_may_be_written_out(moves: list[tuple[str, int, int, float]]) -> None:
    written, called, die, now = Throttle(ThrottleConfig(**SMALL)), Throttle(ThrottleConfig(**SMALL)), Die(), 5.0  # type: ignore[arg-type]
    for what, wait, times, die.face in moves:
        now += wait / 64
        for _ in range(times):
            if what == "accepted":
                called.accepted(now)
                if now >= written.rolls_at:
                    written.roll(now)
                written.accepts += 1
                if not written.calm:
                    written.accepted_again(now)
            elif what == "not_accepted":
                called.not_accepted(now)
                written.not_accepted(now)
            else:
                assert written.admit(now, die) == called.admit(now, die)
        assert (written.chance(now), written.calm) == (called.chance(now), called.calm)


# ---------------------------------------------------------------------------------------------------------- what it promises


class Servers:
    """Can do so many calls a second; refuse the rest at once. `broken`: refuse all."""

    def __init__(self, calls_per_s: float) -> None:
        self.calls_per_s = calls_per_s
        self.broken = False
        self.recent: deque[float] = deque()
        self.came = 0

    def take(self, now: float) -> bool:
        self.came += 1
        while self.recent and self.recent[0] <= now - 0.5:
            self.recent.popleft()
        if self.broken or len(self.recent) >= self.calls_per_s / 2:
            return False
        self.recent.append(now)
        return True


def run(throttle: Throttle, servers: Servers, rng: random.Random, *, calls_per_s: float, since: float, for_s: float) -> list[str]:
    """What became of each call: accepted, refused, held."""
    ends = []
    for number in range(int(calls_per_s * for_s)):
        now = since + number / calls_per_s
        if not throttle.calm and not throttle.admit(now, rng):
            ends.append("held")
        elif servers.take(now):
            throttle.accepted(now)
            ends.append("accepted")
        else:
            throttle.not_accepted(now)
            ends.append("refused")
    return ends


@pytest.mark.parametrize(("overload", "sent"), [(1.5, 1.5), (3, 2.0), (4, 2.0), (20, 4.0)])
def test_servers_see_at_most_k_times_what_they_can_do_or_the_fifth_that_looks(overload: float, sent: float) -> None:
    throttle, servers, rng = Throttle(ThrottleConfig()), Servers(50), random.Random(1)
    run(throttle, servers, rng, calls_per_s=50 * overload, since=1000.0, for_s=120)
    servers.came = 0
    ends = run(throttle, servers, rng, calls_per_s=50 * overload, since=1120.0, for_s=60)
    assert servers.came / (60 * 50) == pytest.approx(sent, rel=0.1)
    assert ends.count("accepted") / (60 * 50) > 0.97, "what they can do is done"


@pytest.mark.parametrize("calls_per_s", [20, 200, 2000])
def test_when_servers_are_well_again_so_are_we_within_ten_seconds(calls_per_s: int) -> None:
    """At 90 % of what they can do; by the formula alone it would take two minutes."""
    throttle, servers, rng = Throttle(ThrottleConfig()), Servers(calls_per_s / 0.9), random.Random(2)
    for_s = 100 if calls_per_s < 2000 else 20
    servers.broken = True
    down = run(throttle, servers, rng, calls_per_s=calls_per_s, since=1000.0, for_s=for_s)
    assert down.count("held") > 0.7 * len(down)
    servers.broken = False
    run(throttle, servers, rng, calls_per_s=calls_per_s, since=1000.0 + for_s, for_s=10)
    after = run(throttle, servers, rng, calls_per_s=calls_per_s, since=1010.0 + for_s, for_s=10)
    assert after.count("accepted") / len(after) >= 0.9
    assert throttle.calm


def test_by_chance_an_overload_is_not_taken_for_recovery() -> None:
    throttle, rng, forgot = Throttle(ThrottleConfig()), random.Random(3), 0
    for number in range(50_000):
        now = 1000 + number / 100
        before = throttle.chance(now)
        if rng.random() < 0.5:
            throttle.accepted(now)
        else:
            throttle.not_accepted(now)
        forgot += before > 0.01 and throttle.chance(now) == 0.0
    assert forgot == 0


def test_below_five_calls_a_second_it_does_nothing() -> None:
    throttle, die = Throttle(ThrottleConfig()), Die()
    for number in range(4 * 300):
        now = 1000 + number / 4
        assert throttle.admit(now, die)
        throttle.not_accepted(now)
    assert throttle.calm


def test_just_above_five_calls_a_second_it_goes_on_holding_back() -> None:
    """The rate is that of the whole window, whichever twelfth of it has just begun."""
    throttle = Throttle(ThrottleConfig())
    for number in range(1600):
        throttle.not_accepted(1000 + number / 5.2)
        assert throttle.calm == (number < 49), "fifty calls: the first twelfth counts as a whole one"


def test_what_was_forgotten_does_not_thin_out_what_comes_after_it() -> None:
    throttle, now = Throttle(ThrottleConfig()), 1000.0
    for _ in range(2000):
        now += 0.05
        throttle.not_accepted(now)
    for _ in range(20):
        now += 0.05
        throttle.accepted(now)
    assert throttle.calm
    for _ in range(300):
        now += 0.05
        throttle.not_accepted(now)
    assert throttle.chance(now) == 0.8


def test_it_never_holds_back_more_than_its_share() -> None:
    throttle = Throttle(ThrottleConfig())
    for number in range(10_000):
        throttle.not_accepted(1000 + number / 100)
    assert throttle.chance(1100.0) == 0.8


def test_a_call_held_back_counts_as_asked() -> None:
    throttle, die = Throttle(ThrottleConfig()), Die()
    for number in range(100):
        throttle.accepted(1000.0)
        if number < 40:
            throttle.not_accepted(1000.0)
    for _ in range(61):
        throttle.not_accepted(1001.0)
    assert throttle.chance(1001.0) == pytest.approx(1 / 202)
    assert not throttle.admit(1001.0, die)
    assert throttle.chance(1001.0) == pytest.approx(2 / 203)


def test_no_dice_are_thrown_while_there_is_nothing_to_decide() -> None:
    class Never(random.Random):
        def random(self) -> float:
            raise AssertionError("thrown")

    throttle = Throttle(ThrottleConfig())
    throttle.accepted(1000.0)
    assert throttle.admit(1000.0, Never())


def test_off_it_stays_calm() -> None:
    throttle = Throttle(ThrottleConfig(mode="off"))
    for _ in range(1000):
        throttle.not_accepted(1000.0)
    assert throttle.calm


@pytest.mark.parametrize("outcome", OUTCOMES, ids=lambda outcome: outcome.name)
def test_each_outcome_counts_as_its_column_says(outcome: Any) -> None:
    throttle = Throttle(ThrottleConfig(calls_min_per_s=0.0))
    for _ in range(10):
        throttle.accepted(1000.0)
    for _ in range(20):
        throttle.not_accepted(1000.0)
    throttle.record(outcome, 1000.0)
    expected = {"accepted": (31, 11), "not_accepted": (31, 10), "nothing": (30, 10)}[outcome.throttle]
    assert throttle.chance(1000.0) == pytest.approx((expected[0] - 2 * expected[1]) / (expected[0] + 1))


# ---------------------------------------------------------------------------------------------------------------- the layer


def request() -> Request:
    return Request(MethodInfo("shop.place"), b"", False, None, 7)


def refusing(mode: Mode = "enforce") -> Throttle:
    """A throttle in front of servers that refused everything."""
    throttle = Throttle(ThrottleConfig(mode=mode))
    for _ in range(1000):
        throttle.not_accepted(1000.0)
    return throttle


class Served:
    """A handler that answers, or raises what it is given."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error
        self.calls = 0

    async def __call__(self, _request: Request) -> Reply:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return Reply(b"done")


async def test_the_layer_holds_back_and_says_so() -> None:
    facts: list[Fact] = []
    throttle, handler, die = refusing(), Served(), Die()
    send = throttle_layer(throttle, lambda: 1000.0, die, facts.append)(handler)
    with pytest.raises(Overloaded, match=r"^shop.place: held back") as raised:
        await send(request())
    assert (raised.value.executed, raised.value.retry, raised.value.remote) == ("no", "safe", False)
    assert facts == [CallHeldBack("shop.place", "throttle")]
    die.face = 0.9
    assert (await send(request())).body == b"done"
    assert (handler.calls, throttle.held, len(facts)) == (1, 1, 1)


async def test_the_layer_in_shadow_lets_through_and_says_what_it_would_have_done() -> None:
    facts: list[Fact] = []
    throttle, handler = refusing("shadow"), Served()
    before = throttle.chance(1000.0)
    for _ in range(100):
        await throttle_layer(throttle, lambda: 1000.0, Die(), facts.append)(handler)(request())
    assert (handler.calls, throttle.would, throttle.held) == (100, 100, 0)
    assert facts == [CallHeldBack("shop.place", "throttle", enforced=False)] * 100
    assert throttle.chance(1000.0) == before, "it has not learned from calls that would not have been sent"


@pytest.mark.parametrize(
    ("error", "accepted", "asked"),
    [
        (None, 1, 1),
        (Refused("no"), 1, 1),
        (InternalError(remote=True), 1, 1),
        (Overloaded(remote=True), 0, 1),
        (DeadlineExceeded(), 0, 1),
        (Unavailable(), 0, 0),
        (KeyError("a bug"), 0, 0),
        (asyncio.CancelledError(), 0, 1),
    ],
    ids=str,
)
async def test_the_layer_tells_how_the_call_ended(error: BaseException | None, accepted: int, asked: int) -> None:
    throttle = Throttle(ThrottleConfig(calls_min_per_s=0.0))
    for _ in range(99):
        throttle.not_accepted(1000.0)
    send = throttle_layer(throttle, lambda: 1000.0, Die(0), lambda fact: None)(Served(error))
    throttle.calm = True  # as it may be when this call began
    if error is None:
        await send(request())
    else:
        with pytest.raises(type(error)) as raised:
            await send(request())
        assert raised.value is error
    counted = (throttle._old_accepted + throttle.accepts, throttle._refused_now)
    assert counted == (accepted, 99 + asked - accepted)


def test_a_cancel_at_every_await_counts_once() -> None:
    async def scenario(world: World, cut: Cut[Reply]) -> None:
        throttle = Throttle(ThrottleConfig())

        async def slow(_request: Request) -> Reply:
            await asyncio.sleep(1)
            await asyncio.sleep(1)
            return Reply(b"done")

        send = throttle_layer(throttle, world.now, Die(), lambda fact: None)(slow)
        await cut(send(request()))  # type: ignore[arg-type]
        counted = (throttle._old_accepted + throttle.accepts, throttle._old_refused + throttle._refused_now)
        assert counted == ((0, 1) if cut.happened else (1, 0))

    assert cancel_everywhere(scenario) == 2


# ------------------------------------------------------------------------------------------------------------ configuration


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mode", "on"),
        *[("requests_per_accept", value) for value in (1.0, 11, math.nan)],
        *[("window_s", value) for value in (0.5, 3601, math.nan)],
        *[("held_back_max", value) for value in (-0.1, 1.0, math.nan)],
        *[("calls_min_per_s", value) for value in (-1, math.inf, math.nan)],
        ("recovered_after", 4),
    ],
)
def test_a_number_that_makes_no_sense_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{field}={value!r} must be"):
        ThrottleConfig(**{field: value})


def test_the_defaults() -> None:
    config = ThrottleConfig()
    assert (config.mode, config.requests_per_accept, config.window_s, config.held_back_max) == ("enforce", 2.0, 120.0, 0.8)
    assert (config.calls_min_per_s, config.recovered_after) == (5.0, 20)
