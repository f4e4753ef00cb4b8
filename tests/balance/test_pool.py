"""The rules of a node's connections: one by one, and in lives of many connections that are lived by the rules."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.balance.pool import DRAINING_MAX, PoolConfig, PoolRules, SessionView
from holdfast.errors import ConfigError

LIMIT = 4
LATER = 10_000.0
ROUNDING_S = 1e-6
SLOW_S = 20.0


@dataclass(eq=False)
class Session:
    """A connection that is only thought of."""

    opened_at: float = 0.0
    retire_at: float = LATER
    open_calls: int = 0
    calls_max: int = LIMIT
    last_used_at: float = 0.0
    draining_at: float = math.inf


def rules(server_idle_s: float = math.inf, **config: Any) -> PoolRules:
    made = PoolRules(PoolConfig(**config), random.Random(1))
    made.server_idle_s = server_idle_s
    return made


def decided(pool: PoolRules, now: float, *sessions: Session, opening: int = 0, waiting: int = 0) -> list[tuple[str, Any]]:
    return [
        (each.do, None if each.session is None else sessions.index(each.session))
        for each in pool.decide(now, sessions, opening=opening, waiting=waiting)
    ]


OPEN = ("open", None)


# ------------------------------------------------------------------------------------------------------------ how many


@pytest.mark.parametrize(
    ("config", "sessions", "opening", "waiting", "opens"),
    [
        ({}, [], 0, 0, 1),
        ({}, [], 1, 5, 0),
        ({}, [0], 0, 0, 0),
        ({}, [LIMIT], 0, 5, 0),
        ({"connections_min": 0}, [], 0, 0, 0),
        ({"connections_min": 0}, [], 0, 1, 1),
        ({"connections_min": 0}, [], 1, 9, 0),
        ({"connections_max": 3}, [], 0, 0, 1),
        ({"connections_max": 3}, [LIMIT - 1], 0, 0, 0),
        ({"connections_max": 3}, [LIMIT], 0, 0, 1),
        ({"connections_max": 3}, [LIMIT], 1, 9, 0),
        ({"connections_max": 3}, [LIMIT, LIMIT - 1], 0, 0, 0),
        ({"connections_max": 3}, [LIMIT, LIMIT], 0, 0, 1),
        ({"connections_max": 3}, [LIMIT, LIMIT, LIMIT], 0, 9, 0),
        ({"connections_max": 3}, [LIMIT + 5], 0, 0, 1),
        ({"connections_max": 3, "connections_min": 2}, [], 0, 0, 2),
        ({"connections_max": 3, "connections_min": 2}, [], 1, 0, 1),
        ({"connections_max": 3, "connections_min": 2}, [0], 0, 0, 1),
        ({"connections_max": 3, "connections_min": 2}, [0, 0], 0, 0, 0),
    ],
)
def test_how_many_are_wanted(config: dict[str, Any], sessions: list[int], opening: int, waiting: int, opens: int) -> None:
    open_ = [Session(open_calls=calls) for calls in sessions]
    assert decided(rules(**config), 1.0, *open_, opening=opening, waiting=waiting) == [OPEN] * opens


def test_one_that_drains_counts_as_none_and_is_closed_when_its_calls_are_over() -> None:
    pool, session = rules(), Session(open_calls=2, draining_at=10.0)
    assert decided(pool, 10.0, session) == [OPEN]
    assert decided(pool, 10.0, session, opening=1) == []
    session.open_calls = 0
    assert decided(pool, 10.0, session, opening=1) == [("close", 0)]


def test_one_that_drains_has_its_grace_and_no_more() -> None:
    pool, old, new = rules(), Session(open_calls=2, draining_at=10.0), Session(last_used_at=10.0)
    assert decided(pool, 69.9, old, new) == []
    assert [(each.do, each.reason) for each in pool.decide(70.0, [old, new])] == [("close", "2 calls were not over after 60 s")]


def test_of_too_many_that_drain_the_oldest_is_closed() -> None:
    draining = [Session(open_calls=1, draining_at=float(at)) for at in range(DRAINING_MAX + 1)]
    assert decided(rules(), 20.0, Session(), *draining) == [("close", 1)]
    assert decided(rules(), 20.0, Session(), *draining[1:]) == []


# ------------------------------------------------------------------------------------------------------------ too old


def test_the_age_differs_by_a_tenth_up_or_down() -> None:
    pool = rules()
    ages = [pool.retire_at(100.0) - 100.0 for _ in range(500)]
    assert 1620 <= min(ages) < 1640
    assert 1960 < max(ages) <= 1980
    assert rules(age_jitter=0.0).retire_at(100.0) == 1900.0


def test_a_connection_that_is_too_old_goes_after_another_came() -> None:
    pool, old, new = rules(), Session(retire_at=100.0, open_calls=3, last_used_at=99.0), Session(100.0, last_used_at=100.0)
    assert decided(pool, 99.9, old) == []
    assert [(each.do, each.reason) for each in pool.decide(100.0, [old])] == [("open", "age")]
    assert decided(pool, 101.0, old, opening=1) == []
    assert decided(pool, 102.0, old, new) == [("retire", 0)]
    old.draining_at = 102.0
    assert decided(pool, 103.0, old, new) == []
    old.open_calls = 0
    assert decided(pool, 103.0, old, new) == [("close", 0)]


def test_while_no_other_can_be_had_it_is_used_as_ever() -> None:
    pool, old = rules(), Session(retire_at=100.0)
    assert decided(pool, 5000.0, old, opening=1) == []


def test_it_stays_until_what_it_carries_finds_room() -> None:
    pool = rules(connections_max=2)
    old, other = Session(retire_at=100.0, open_calls=3), Session(open_calls=2)
    assert decided(pool, 100.0, old, other) == [OPEN]
    assert decided(pool, 100.0, old, Session(open_calls=1)) == [("retire", 0)]


def test_of_several_that_are_too_old_one_is_replaced_at_a_time() -> None:
    pool = rules(connections_max=3, connections_min=3)
    old = [Session(retire_at=float(at), last_used_at=99.0) for at in (30, 10, 20)]
    assert decided(pool, 100.0, *old) == [OPEN]
    assert decided(pool, 100.0, *old, Session(last_used_at=99.0)) == [("retire", 1)]


def test_one_that_nobody_uses_is_not_replaced_when_none_is_to_be_kept() -> None:
    assert decided(rules(connections_min=0), 100.0, Session(retire_at=100.0, last_used_at=99.0)) == [("retire", 0)]


# ------------------------------------------------------------------------------------------------------------ idle


def test_a_spare_one_that_is_not_used_is_closed_and_the_last_is_kept() -> None:
    pool = rules(connections_max=3)
    assert decided(pool, 60.0, Session(last_used_at=0.1), Session(), Session(open_calls=1)) == [("close", 1)]
    assert decided(pool, 9000.0, Session(last_used_at=0.1), Session()) == [("close", 1)]
    assert decided(pool, 9000.0, Session()) == []


def test_none_has_to_be_kept_with_a_minimum_of_none() -> None:
    assert decided(rules(connections_min=0), 60.0, Session()) == [("close", 0)]
    assert decided(rules(connections_min=0), 60.0, Session(open_calls=1)) == []


@pytest.mark.parametrize(("server_s", "ours_s"), [(3.0, 2.0), (1.0, 0.5), (2.0, 1.0), (60.0, 54.0), (600.0, 540.0)])
def test_we_let_go_before_the_server_does_and_have_another_in_its_place(server_s: float, ours_s: float) -> None:
    pool, session = rules(server_s), Session(last_used_at=100.0)
    assert decided(pool, 100.0 + ours_s - 0.01, session) == []
    assert decided(pool, 100.0 + ours_s + 0.01, session) == [("close", 0), OPEN]
    assert pool.next_at(100.0, [session]) == pytest.approx(100.0 + ours_s)


# ------------------------------------------------------------------------------------------------------------ when to ask again


def test_when_time_alone_asks_for_a_decision() -> None:
    pool = rules(connections_max=2)
    assert pool.next_at(0.0, []) == math.inf
    assert pool.next_at(0.0, [Session(retire_at=500.0)]) == 500.0
    assert pool.next_at(0.0, [Session(retire_at=500.0, last_used_at=5.0), Session(retire_at=600.0, open_calls=1)]) == 65.0
    assert pool.next_at(0.0, [Session(draining_at=7.0, open_calls=1)]) == 67.0
    assert pool.next_at(600.0, [Session(retire_at=500.0, open_calls=1)]) == 601.0


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("connections_max", 0, "expected 1 to 10"),
        ("connections_max", 11, "expected 1 to 10"),
        ("connections_min", 2, "expected 0 to connections_max=1"),
        ("connections_min", -1, "expected 0 to connections_max=1"),
        ("age_s", 0, "expected 0.1 to 2592000 seconds"),
        ("grace_s", math.inf, "expected 0.1 to 2592000 seconds"),
        ("idle_s", math.nan, "expected 0.1 to 2592000 seconds"),
        ("age_jitter", 0.51, "expected a share from 0 to 0.5"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}={value!r}: {expected}"):
        PoolConfig(**{field: value})


# ------------------------------------------------------------------------------------------------------------ whole lives


class Life:
    """A node's connections over a day: calls, a server that goes away, connections that take a while or are lost."""

    def __init__(self, seed: int, config: PoolConfig, server_idle_s: float) -> None:
        self.rng = random.Random(seed)
        self.config = config
        self.rules = PoolRules(config, self.rng)
        self.rules.server_idle_s = server_idle_s
        self.now = 0.0
        self.sessions: list[Session] = []
        self.opening: list[float] = []
        self.waiting = 0

    def live(self) -> list[Session]:
        return [each for each in self.sessions if each.draining_at == math.inf]

    def decide(self) -> None:
        """Do what the rules say until they say nothing, and hold them to what they promise."""
        for _ in range(50):
            views: list[SessionView] = list(self.sessions)
            actions = self.rules.decide(self.now, views, opening=len(self.opening), waiting=self.waiting)
            if not actions:
                break
            before = len(self.live())
            for action in actions:
                if action.do == "open":
                    assert action.session is None
                    self.opening.append(self.now + self.rng.choice((0.0, 0.1, SLOW_S)))
                elif action.do == "retire":
                    assert action.session.draining_at == math.inf
                    assert action.session.retire_at <= self.now, "only what is too old is retired"
                    action.session.draining_at = self.now
                else:
                    self.closed(action.session, action.reason)
            went = before - len(self.live())
            assert went == 0 or len(self.live()) + len(self.opening) >= self.config.connections_min
        else:
            pytest.fail(f"the rules never come to an end: {actions}")
        assert len(self.live()) + len(self.opening) >= self.config.connections_min
        assert len(self.live()) + len(self.opening) <= self.config.connections_max + 1
        assert sum(1 for each in self.sessions if each.draining_at < math.inf) <= DRAINING_MAX
        full = all(each.open_calls >= each.calls_max for each in self.live())
        if self.waiting and full and len(self.live()) < self.config.connections_max:
            assert self.opening, "calls wait, there is no room, and another connection would be allowed"

    def closed(self, session: Session, reason: str) -> None:
        if session.draining_at == math.inf:
            assert (reason, session.open_calls) == ("idle", 0)
            limit_s = self.config.idle_s if self.rules.server_idle_s == math.inf else min(self.config.idle_s, self.rules.server_idle_s / 2)
            assert self.now - session.last_used_at >= limit_s - ROUNDING_S
        elif session.open_calls and reason != f"more than {DRAINING_MAX} connections drain":
            assert self.now - session.draining_at >= self.config.grace_s - ROUNDING_S
        self.sessions.remove(session)

    def step(self) -> None:
        """Something happens, or time passes until the rules want to be asked."""
        rng = self.rng
        kind = rng.random()
        if kind < 0.25:
            wake_at = min([self.rules.next_at(self.now, list(self.sessions)), *self.opening])
            assert wake_at >= self.now or wake_at in self.opening
            self.now = max(self.now, min(wake_at, self.now + 10_000))
        elif kind < 0.5:
            self.now += rng.choice((0.01, 1.0, 30.0))
        elif kind < 0.75:
            for _ in range(rng.randrange(1, 6)):
                self.call()
        elif kind < 0.95:
            for session in self.sessions:
                if session.open_calls and rng.random() < 0.7:
                    session.open_calls -= rng.randrange(1, session.open_calls + 1)
                    session.last_used_at = self.now
        elif self.live():
            victim = rng.choice(self.live())
            if rng.random() < 0.5:
                victim.draining_at = self.now
            else:
                self.sessions.remove(victim)
        for at in [at for at in self.opening if at <= self.now]:
            self.opening.remove(at)
            if rng.random() < 0.8:
                self.sessions.append(Session(self.now, self.rules.retire_at(self.now), last_used_at=self.now))
        while self.waiting and self.room():
            self.waiting -= 1
            self.call()

    def room(self) -> list[Session]:
        return [each for each in self.live() if each.open_calls < each.calls_max]

    def call(self) -> None:
        if room := self.room():
            taken = max(room, key=lambda each: each.last_used_at)
            taken.open_calls += 1
            taken.last_used_at = self.now
        else:
            self.waiting += 1


CONFIGS = [
    PoolConfig(),
    PoolConfig(connections_min=0),
    PoolConfig(connections_max=3, age_s=100.0),
    PoolConfig(connections_max=3, connections_min=2, age_s=100.0, idle_s=10.0),
    PoolConfig(connections_max=10, connections_min=0, idle_s=1.0, age_s=30.0, grace_s=5.0),
]


@given(st.integers(0, 2**32), st.sampled_from(CONFIGS), st.sampled_from([math.inf, 3.0, 60.0]))
def test_a_life_by_the_rules(seed: int, config: PoolConfig, server_idle_s: float) -> None:
    life = Life(seed, config, server_idle_s)
    life.decide()
    for _ in range(300):
        life.step()
        life.decide()


@pytest.mark.parametrize("config", CONFIGS)
def test_left_alone_it_keeps_what_is_to_be_kept_and_replaces_it_in_time(config: PoolConfig) -> None:
    life = Life(1, config, math.inf)
    life.call()
    life.decide()
    seen: dict[Session, None] = {}
    for _ in range(200):
        ready = [at for at in life.opening if at <= life.now]
        for at in ready:
            life.opening.remove(at)
            life.sessions.append(Session(life.now, life.rules.retire_at(life.now), last_used_at=life.now))
        life.decide()
        seen.update(dict.fromkeys(life.sessions))
        assert all(each.retire_at + 2 * SLOW_S + 1 >= life.now for each in life.live()), "one after the other is replaced"
        if life.now > 60:
            assert len(life.live()) in (config.connections_min, config.connections_min + 1)
        life.now = min([life.rules.next_at(life.now, list(life.sessions)), *life.opening, life.now + 60])
    assert len(seen) >= 2 * config.connections_min
