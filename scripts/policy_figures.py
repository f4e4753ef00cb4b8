"""Draw the pictures of the pages about policies, from the policies themselves.

Each figure drives the real machine, the class that a client uses, with seeded dice and a clock of its own, and draws what came out. So a
picture cannot show what the code does not do: `tests/docs/test_policies.py` draws them again and compares byte by byte.

    python -m scripts.policy_figures            prints which pictures are not what they should be
    python -m scripts.policy_figures --write    writes them

What may never happen here: a curve that no machine made; a real clock; dice without a seed.
"""

from __future__ import annotations

import heapq
import math
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from xml.sax.saxutils import escape

from bench.plots import Bar, bars
from holdfast.balance.balancer import BalanceConfig, Balancer
from holdfast.balance.eject import Ejector
from holdfast.balance.endpoint import Endpoint, Node
from holdfast.balance.members import Members
from holdfast.balance.pick import make_picker
from holdfast.balance.picker import SlowStart
from holdfast.balance.strain import StrainConfig
from holdfast.calling.load import Load
from holdfast.calling.stack import client_stack, rows
from holdfast.clock import Streams
from holdfast.control.backoff import equal_jitter
from holdfast.control.budget import RetryBudget
from holdfast.control.wheel import Wheel
from holdfast.errors import DeadlineExceeded, HoldfastError, InvalidArgument, OutcomeUnknown, Overloaded, Refused, Unavailable
from holdfast.facts import BreakerChanged, Fact, NodeEjected, discard
from holdfast.handler import Handler, Mode
from holdfast.policy.breaker import Breaker, BreakerConfig
from holdfast.policy.deadline import attempt_until
from holdfast.policy.fallback import FallbackConfig, Fallbacks
from holdfast.policy.hedge import HedgeConfig, Hedges
from holdfast.policy.limit import LimitConfig, Limiter, Turn
from holdfast.policy.retry import RetryConfig, judge_retry
from holdfast.policy.throttle import Throttle, ThrottleConfig
from holdfast.rpc.dialer import DialConfig
from scripts.charts import Chart, document
from scripts.figure_words import chinese, in_chinese

DOCS = Path(__file__).resolve().parent.parent / "docs"
LANGUAGES = ("en", "zh")


def dice(name: str) -> random.Random:
    """A stream of chance of that name, the same each time."""
    return Streams(6).stream(name)


# ---------------------------------------------------------------------------------------------------------------- the stack


def stack(say: Callable[[str], str] = str) -> str:
    """Every layer, from the roles and the order that the client itself is built of. `say`: how a reason is said."""

    def layer(handler: Handler) -> Handler:
        return handler

    editable = [placed.role for placed in client_stack(throttle=layer, retry=layer, limit=layer)]
    parts, y = [], 58
    for role, why in rows(client_stack(throttle=layer, retry=layer, limit=layer)):
        parts.append(f'<rect class="box{" ours" if role in editable else ""}" x="12" y="{y}" width="130" height="32" rx="4"/>')
        parts.append(f'<text x="77" y="{y + 21}" text-anchor="middle">{escape(role)}</text>')
        lines = _wrapped(say(why), 92)
        for at, line in enumerate(lines):
            parts.append(f'<text class="small" x="156" y="{y + 20 - 7 * (len(lines) - 1) + 14 * at}">{escape(line)}</text>')
        y += 44
    return document("The way of a call, outermost first", "green: layers that an edit of the stack can reach", y, parts)


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


# ---------------------------------------------------------------------------------------------------------------- time


def attempts() -> str:
    """A call of 900 ms and three attempts, at nodes that answer in 40 ms or not at all; `attempt_until` says when the next one goes."""
    deadline_s, answer_s = 0.9, 0.04
    parts, y = [], 66
    for name, silent, idempotent in (
        ("the node answers", 0, True),
        ("the first node is silent", 1, True),
        ("two nodes are silent", 2, True),
        ("silent, and not idempotent", 1, False),
    ):
        began, starts = 0.0, [0.0]
        while len(starts) <= silent:
            until = attempt_until(began, deadline_s, 3 - len(starts) + 1, idempotent=idempotent)
            if until is None:
                break
            began = until
            starts.append(began)
        answered = len(starts) > silent
        end = starts[-1] + answer_s if answered else deadline_s
        parts.append(f'<text x="12" y="{y + 13}">{escape(name)}</text>')
        for at, start in enumerate(starts):
            kind = "ours" if answered and at == silent else "plain"
            parts.append(
                f'<rect class="{kind}" x="{_ms(start)}" y="{y + 16 * at}" width="{round(_ms(end) - _ms(start), 1):g}" height="12" rx="2"/>'
            )
        verdict = f"answered after {1000 * end:.0f} ms" if answered else "DeadlineExceeded: who can know whether it ran?"
        parts.append(f'<text class="small" x="{_ms(0) + 4:g}" y="{y + 16 * len(starts) + 10}">{verdict}</text>')
        y += 16 * len(starts) + 30
    for at in range(4):
        x = _ms(deadline_s * at / 3)
        parts.insert(0, f'<line class="grid" x1="{x}" y1="56" x2="{x}" y2="{y}"/>')
        parts.append(f'<text class="small" x="{x}" y="{y + 16}" text-anchor="middle">{1000 * deadline_s * at / 3:.0f} ms</text>')
    title = "One deadline of 900 ms, up to three attempts beside one another"
    return document(title, "each bar is an attempt; green: the one that was answered", y + 30, parts)


def _ms(at_s: float) -> float:
    return round(230 + 500 * at_s / 0.9, 1)


def connections() -> str:
    """When 300 clients that lost one server together try to connect again: their own back-off, and a second's pause."""
    config, clients, until_s = DialConfig(), 300, 30
    rng = dice("reconnect")
    ours: Counter[int] = Counter()
    for _ in range(clients):
        at, failures = 0.0, 0
        while at < until_s:
            at += equal_jitter(rng, failures, base_s=config.base_s, cap_s=config.cap_s)
            failures += 1
            ours[int(at * 4)] += 1
    chart = Chart(
        "300 clients try to connect again after their server went away",
        "attempts in each quarter of a second",
        x_max=until_s,
        y_max=max(ours.values()),
        x_label="seconds since it went away",
        y_label="attempts",
    )
    for second in range(1, until_s):
        chart.bar(second, second + 0.25, clients, "plain")
    for quarter, count in sorted(ours.items()):
        if quarter < 4 * until_s:
            chart.bar(quarter / 4, (quarter + 1) / 4, count, "ours")
    chart.legend("plain", f"each second: {clients * (until_s - 1):,} in all")
    total = sum(count for quarter, count in ours.items() if quarter < 4 * until_s)
    chart.legend("ours", f"jittered back-off, {config.base_s:g} to {config.cap_s:g} s: {total:,}")
    return chart.svg()


# ---------------------------------------------------------------------------------------------------------------- trying again


def retries() -> str:
    """Attempts a second around an outage of 30 s at 100 calls a second, with the budget and without."""
    fails = (20.0, 50.0)
    series = {mode: _attempts_by_second(RetryBudget(mode=mode), fails) for mode in ("off", "enforce")}
    chart = Chart(
        "What a server sees of 100 calls a second when all of them fail",
        "three attempts at most; the budget is a fifth of the calls and ten a second",
        x_max=80,
        y_max=320,
        x_label="seconds",
        y_label="attempts a second",
    )
    chart.band(*fails, "all fail")
    chart.steps(series["off"], "plain", "three attempts, no budget")
    chart.steps(series["enforce"], "ours", "with the budget")
    return chart.svg()


def _attempts_by_second(budget: RetryBudget, fails: tuple[float, float]) -> list[tuple[float, float]]:
    rng, config = dice("retry"), RetryConfig()
    sent: Counter[int] = Counter()
    queue = [(number / 100, number, 1) for number in range(8000)]
    while queue:
        now, number, attempt = heapq.heappop(queue)
        if attempt == 1:
            budget.deposit(now)
        elif not budget.take(now):
            continue
        sent[int(now)] += 1
        if not fails[0] <= now < fails[1]:
            budget.succeeded(now)
            continue
        error = Unavailable("nobody is there")
        backoff_s, _ = judge_retry(error, attempt, 3, idempotent=True, left_s=10.0, config=config, rng=rng)
        if backoff_s is not None:
            heapq.heappush(queue, (now + backoff_s, number, attempt + 1))
    return [(float(second), float(sent[second])) for second in range(80)]


def hedging() -> str:
    """How long calls take, of which 2 % hit a pause of some 300 ms, with and without hedging at 5 %."""
    rng = dice("latencies")
    config = HedgeConfig(mode="enforce", extra=0.05)
    budget = RetryBudget()
    hedges = Hedges(config, budget)

    def took_s() -> float:
        return rng.uniform(0.2, 0.4) if rng.random() < 0.02 else rng.lognormvariate(math.log(0.008), 0.3)

    alone, hedged = [], []
    ends: list[tuple[float, float]] = []
    count, sent = 24_000, 0
    for number in range(count):
        now = number / 200
        while ends and ends[0][0] <= now:
            at, took = heapq.heappop(ends)
            hedges.of("shop.price").record(took, at)
            budget.succeeded(at)
        budget.deposit(now)
        hedges.own.deposit(now)
        first_s, delay = took_s(), hedges.of("shop.price")
        after_s = delay.delay_s(now)
        total_s = first_s
        if after_s is not None and first_s > after_s and not delay.may_hedge(now + after_s, 1.0) and delay.send(now + after_s):
            sent += 1
            total_s = min(first_s, after_s + took_s())
        alone.append(first_s)
        hedged.append(total_s)
        heapq.heappush(ends, (now + total_s, total_s))
    alone.sort()
    hedged.sort()
    chart = Chart(
        "How long calls take when 2 of 100 run into a pause of 200 to 400 ms",
        f"24,000 calls; {100 * sent / count:.1f} % of them were sent a second time",
        x_max=3.0,
        y_max=0.4 * 1000,
        x_label="the slowest of so many calls",
        y_label="ms",
        x_names={0.301: "2", 1.0: "10", 1.301: "20", 2.0: "100", 2.699: "500", 3.0: "1,000"},
    )
    shares = [at / 40 for at in range(1, 121)]
    for series, kind, label in ((alone, "plain", "sent once"), (hedged, "ours", "hedged")):
        chart.line([(x, 1000 * series[min(count - 1, int(count * (1 - 10**-x)))]) for x in shares], kind, label)
    return chart.svg()


# ---------------------------------------------------------------------------------------------------------------- keeping calls away


def breaker() -> str:
    """Calls that reach a node that is dead for 20 s, at 10 a second."""
    dead = (5.0, 25.0)
    facts: list[tuple[float, Fact]] = []
    machine = Breaker("tcp://10.0.0.7:7000", BreakerConfig(), dice("breaker"), lambda fact: facts.append((now, fact)))
    reached: list[tuple[float, bool]] = []
    for number in range(400):
        now = number / 10
        era = machine.admit(now)
        if era:
            ok = not dead[0] <= now < dead[1]
            reached.append((now, ok))
            (machine.succeeded if ok else machine.failed)(now, era)
    chart = Chart(
        "The calls that go to a node which is dead for 20 seconds",
        "10 calls a second; what the breaker keeps away goes to other nodes",
        x_max=40,
        y_max=10,
        x_label="seconds",
        y_label="calls in each second",
    )
    chart.band(*dead, "dead")
    for second in range(40):
        inside = [ok for at, ok in reached if second <= at < second + 1]
        good, bad = sum(inside), len(inside) - sum(inside)
        chart.bar(second, second + 1, good, "ours")
        if bad:
            chart.bar(second, second + 1, good + bad, "bad", base=good)
    chart.legend("ours", "answered")
    chart.legend("bad", f"failed: {sum(not ok for _, ok in reached)} of {len(reached)}")
    opened = [at for at, fact in facts if isinstance(fact, BreakerChanged) and fact.state == "open"]
    chart.line([(opened[0], 0.0), (facts[-1][0], 0.0)], "yardstick", f"open or probing, opened {len(opened)} times")
    return chart.svg()


def throttle() -> str:
    """What is sent of 200 calls a second to servers that can take 60 for a while."""
    rng, machine = dice("throttle"), Throttle(ThrottleConfig())
    weak = (60.0, 240.0)
    sent: Counter[int] = Counter()
    taken: Counter[int] = Counter()
    every_s = 5
    room = 0.0
    for number in range(200 * 360):
        now = number / 200
        room = min(6.0, room + 60 / 200)  # a token bucket: sixty a second
        if not machine.calm and not machine.admit(now, rng):
            continue
        sent[int(now / every_s)] += 1
        if not weak[0] <= now < weak[1] or room >= 1.0:
            room = max(0.0, room - 1.0)
            machine.accepted(now)
            taken[int(now / every_s)] += 1
        else:
            machine.not_accepted(now)
    chart = Chart(
        "200 calls a second, and servers that for three minutes take only 60 of them",
        "each point stands for five seconds",
        x_max=360,
        y_max=200,
        x_label="seconds",
        y_label="calls a second",
    )
    chart.band(*weak, "too much for them")
    slots = range(360 // every_s)
    chart.steps([(at * every_s, 200.0) for at in slots], "plain", "asked for")
    chart.steps([(at * every_s, sent[at] / every_s) for at in slots], "ours", "sent")
    chart.steps([(at * every_s, taken[at] / every_s) for at in slots], "yardstick", "accepted")
    return chart.svg()


def limit() -> str:
    """Quick calls of one client beside a method that begins to hang, with a bulkhead of 8 for it and without."""
    chart = Chart(
        "100 quick calls a second beside a method that hangs from second 10 to 30",
        "20 slots for the client; calls wait at most one second for one",
        x_max=45,
        y_max=100,
        x_label="seconds",
        y_label="quick calls in each second",
    )
    chart.band(10, 30, "shop.report hangs")
    for per_method, kind, label in (({}, "plain", "one limit for all"), ({"shop.report": 8}, "ours", "and 8 slots for shop.report")):
        got = _quick_calls(Limiter(LimitConfig(mode="enforce", limit=20, per_method=per_method), dice("retry")))
        chart.steps([(float(second), float(got[second])) for second in range(45)], kind, label)
    return chart.svg()


def _quick_calls(limiter: Limiter) -> Counter[int]:
    """Quick calls that got a slot, by the second they were made in."""
    got: Counter[int] = Counter()
    ids = iter(range(10**9))
    events: list[tuple[float, int, Callable[[float], None]]] = []

    def at(when: float, do: Callable[[float], None]) -> None:
        heapq.heappush(events, (when, next(ids), do))

    def call(method: str, now: float) -> None:
        def holds(turn: Turn | None, since: float) -> None:
            if method == "shop.price":
                got[int(now)] += 1
            took_s = 0.01 if method == "shop.price" else 5.0 if 10 <= since < 30 else 0.1
            at(since + took_s, lambda end: limiter.give(method) if turn is None else turn.leave(end))

        if limiter.take(method):
            holds(None, now)
            return
        turn = limiter.queue(method, now + 1.0)
        if turn.stage == "holds":
            holds(turn, now)
        elif turn.waits:
            turn.wake = lambda: holds(turn, clock[0]) if turn.stage == "holds" else None
            at(now + 1.0, lambda _: turn.expire())

    clock = [0.0]
    for number in range(4500):
        at(number / 100, lambda now: call("shop.price", now))
    for number in range(900):
        at(number / 20 + 0.003, lambda now: call("shop.report", now))
    while events:
        clock[0], _, do = heapq.heappop(events)
        do(clock[0])
    return got


def fallback() -> str:
    """For which errors a fallback stands in, as `Fallbacks` decides it."""
    errors: list[tuple[str, HoldfastError]] = [
        ("no connection", Unavailable("down")),
        ("refused by a busy server", Overloaded("busy")),
        ("too late before it was sent", DeadlineExceeded("late", executed="no")),
        ("no answer before the deadline", DeadlineExceeded("late")),
        ("the connection broke under it", OutcomeUnknown("lost")),
        ("the server's own no", Refused("not enough of it", code="failed_precondition")),
        ("the caller's mistake", InvalidArgument("qty: expected int")),
    ]
    fallbacks = Fallbacks(FallbackConfig(values={"shop.price": 0.0}))
    parts = ['<text class="small" x="250" y="70">idempotent</text>', '<text class="small" x="370" y="70">runs once at most</text>']
    y = 80
    for name, error in errors:
        parts.append(f'<text x="12" y="{y + 16}">{escape(name)}</text>')
        for x, idempotent in ((250, True), (370, False)):
            chosen = fallbacks.choose("shop.price", error, idempotent=idempotent) is not None
            parts.append(f'<rect class="{"ours" if chosen else "plain"}" x="{x}" y="{y + 4}" width="14" height="14" rx="2"/>')
            parts.append(f'<text class="small" x="{x + 20}" y="{y + 15}">{"fallback" if chosen else "error"}</text>')
        parts.append(f'<text class="small" x="520" y="{y + 15}">{error.code}, executed: {error.executed}</text>')
        y += 26
    return document("When a fallback stands in, and when the caller hears the error", "as decided by the machine", y + 12, parts)


# ---------------------------------------------------------------------------------------------------------------- many nodes


def balancing() -> str:
    """The share of calls that pickers give to a node 100 times as slow as the four others, at 500 calls a second."""
    found = []
    for name in ("random", "round_robin", "least_loaded", "p2c"):
        share, p99_s = _slow_nodes_share(name)
        text = f"{100 * share:.3g} %, {1000 * p99_s:,.0f} ms"
        found.append(Bar(name, 100 * share, text, "ours" if name == "p2c" else "plain"))
    title = "Calls that go to the one node of five that is 100 times as slow"
    return bars(title, "% of 10,000 calls, 500 a second, and the p99 of all of them; 5 ms a call, 500 ms at the slow node", found)


def _slow_nodes_share(name: str) -> tuple[float, float]:
    rng = dice("latencies")
    balancer = Balancer(make_picker(name, dice("pick")), BalanceConfig())
    nodes = [Node(Endpoint(f"tcp://10.0.0.{at}:7000")) for at in range(1, 6)]
    balancer.add(nodes, 0.0)
    for node in nodes:
        node.state = "ready"
        balancer.changed(node, 0.0)
    ends: list[tuple[float, int, Node, float, int]] = []
    latencies, slow = [], 0
    for number in range(10_000):
        now = number / 500
        while ends and ends[0][0] <= now:
            end, _, node, started, era = heapq.heappop(ends)
            node.succeeded(started, end, era)
        picked = balancer.pick(now)
        assert picked is not None
        took_s = rng.uniform(0.8, 1.2) * (0.5 if picked is nodes[0] else 0.005)
        slow += picked is nodes[0]
        latencies.append(took_s)
        heapq.heappush(ends, (now + took_s, number, picked, now, picked.begin(now)))
    return slow / 10_000, sorted(latencies)[9_900]


def ejection() -> str:
    """The calls of one node of five that fails 40 % of them for two minutes, at two calls a second each."""
    rng = dice("failures")
    told: list[tuple[float, NodeEjected]] = []
    ejector = Ejector(emit=lambda fact: told.append((now, fact)) if isinstance(fact, NodeEjected) else None)
    nodes = [Node(Endpoint(f"tcp://10.0.0.{at}:7000")) for at in range(1, 6)]
    ill, sick = nodes[2], (60.0, 180.0)
    seen: Counter[tuple[int, bool]] = Counter()
    for tick in range(300 * 2):
        now = tick / 2
        ejector.sweep(nodes, now)
        for node in nodes:
            if node.ejected_until > now:
                continue
            share = 0.4 if node is ill and sick[0] <= now < sick[1] else 0.02
            fails = rng.random() < share
            era = node.begin(now)
            (node.failed if fails else node.succeeded)(now - 0.01, now, era)
            if node is ill:
                seen[int(now / 10), fails] += 1
    chart = Chart(
        "One node of five begins to fail 40 % of its calls, at two calls a second",
        "what it gets in each ten seconds",
        x_max=300,
        y_max=20,
        x_label="seconds",
        y_label="calls",
    )
    chart.band(*sick, "fails 40 %")
    for slot in range(30):
        good, bad = seen[slot, False], seen[slot, True]
        chart.bar(10 * slot, 10 * slot + 10, good, "ours")
        if bad:
            chart.bar(10 * slot, 10 * slot + 10, good + bad, "bad", base=good)
    chart.legend("ours", "answered")
    chart.legend("bad", "failed")
    for index, (at, fact) in enumerate(told):
        chart.line([(at, 0.0), (min(300.0, at + fact.for_s), 0.0)], "yardstick", "ejected" if not index else "")
    return chart.svg()


def nodes() -> str:
    """How many nodes are in use while the source of 100 loses its memory for two minutes, and is empty once."""
    members = Members()
    says: list[tuple[float, float]] = []
    used: list[tuple[float, float]] = []
    for now, count in _a_source_that_forgets():
        named = [Endpoint(f"tcp://10.0.0.{at}:7000") for at in range(count)]
        if now % 30 == 0:
            members.update(named, now)
        if now >= members.next_at:
            members.tick(now)
        says.append((now, float(count)))
        used.append((now, float(len(members.current))))
    chart = Chart(
        "A source of 100 nodes that names 3 for a while, and later none",
        "it is asked every 30 seconds",
        x_max=300,
        y_max=100,
        x_label="seconds",
        y_label="nodes",
    )
    chart.steps(says, "plain", "what the source says")
    chart.steps(used, "ours", "what is in use")
    return chart.svg()


def _a_source_that_forgets() -> Iterator[tuple[float, int]]:
    for second in range(301):
        yield float(second), 3 if 45 <= second < 165 else 0 if 225 <= second < 265 else 100


# ---------------------------------------------------------------------------------------------------------------- too much for all


class _Call:
    """One call of the world below: when it is over for its caller, and where it has been."""

    def __init__(self, now: float) -> None:
        self.began = now
        self.deadline_at = now + 1.0
        self.over = False
        self.tried: tuple[Node, ...] = ()


class _Fleet:
    """Four nodes at nine tenths of what they can do, slow for five seconds, whose servers work on for callers who have left.

    A call costs 50 ms; each node has four workers and a queue of a second and a half, and refuses what it has no room for. The client is
    made of the machines of a real one; a slow call may have two attempts beside the first.
    """

    RATE = 288
    SLOW = (5.0, 10.0)

    def __init__(self, mode: Mode) -> None:
        self.now = 0.0
        self.answered: Counter[int] = Counter()
        self._rng, self._ids = dice("latencies"), iter(range(10**9))
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._balancer = Balancer(make_picker("p2c", dice("pick"), slow_start=SlowStart()), BalanceConfig())
        self._budget = RetryBudget()
        wheel = Wheel(lambda: self.now, lambda when, wake: self._at(when, lambda _: wake()))
        self._load = Load(StrainConfig(mode=mode), self._balancer, wheel, discard, self._budget.earn_nothing)
        nodes = [Node(Endpoint(f"tcp://10.0.0.{at}:7000")) for at in range(1, 5)]
        self._balancer.add(nodes, 0.0)
        for node in nodes:
            node.gate = breaker = Breaker(node.key, BreakerConfig(), dice(node.key))
            breaker.owner, breaker.on_change = node, lambda node: self._balancer.changed(node, self.now)
            node.state = "ready"
            self._balancer.changed(node, 0.0)
        self._free_at = {node: [0.0] * 4 for node in nodes}

    def run(self, seconds: int) -> list[float]:
        """Return how many of a hundred calls are answered, of those made in each second."""
        for number in range(self.RATE * seconds):
            self._at(number / self.RATE, self._begin)
        while self._events:
            self.now, _, do = heapq.heappop(self._events)
            do(self.now)
        return [100 * self.answered[second] / self.RATE for second in range(seconds)]

    def _at(self, when: float, do: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._ids), do))

    def _begin(self, now: float) -> None:
        self._budget.deposit(now)
        self._send(_Call(now), now)

    def _send(self, call: _Call, now: float) -> None:
        node = self._balancer.pick(now, None, call.tried)
        assert node is not None
        call.tried = (*call.tried, node)
        era, workers = node.begin(now), self._free_at[node]
        begins = max(now, workers[0])
        if begins - now > 1.5:
            self._at(now + 0.001, partial(self._failed, node, now, era, overload=True))
            return
        done = begins + self._rng.expovariate(20) * (5 if self.SLOW[0] <= begins < self.SLOW[1] else 1)
        heapq.heapreplace(workers, done)
        self._at(min(done, call.deadline_at), partial(self._ended, call, node, now, era))
        beside_at = attempt_until(now, call.deadline_at, 3 - len(call.tried) + 1, idempotent=True)
        if beside_at is not None:
            self._at(beside_at, partial(self._beside, call, node))

    def _beside(self, call: _Call, node: Node, now: float) -> None:
        if not call.over and not self._load.late(node, now) and self._budget.take(now):
            self._send(call, now)

    def _ended(self, call: _Call, node: Node, started: float, era: int, now: float) -> None:
        if call.over:
            node.let_go(started, now, era)
        elif now < call.deadline_at:
            call.over = True
            node.succeeded(started, now, era)
            self._budget.succeeded(now)
            self.answered[int(call.began)] += 1
        else:
            self._failed(node, started, era, now)

    def _failed(self, node: Node, started: float, era: int, now: float, *, overload: bool = False) -> None:
        excused = self._load.overloaded(node, now, None)
        node.failed(started, now, era, overload=overload, by_load=True, excused=excused)


def strain() -> str:
    """The share of calls that are answered around five slow seconds of a fleet that has little to spare, without strain and with it."""
    chart = Chart(
        "Four nodes at 90 % of what they can do, all of them slow for five seconds",
        "288 calls a second with a deadline of one; the servers work on for callers who have left",
        x_max=45,
        y_max=100,
        x_label="seconds",
        y_label="% of the calls answered",
    )
    chart.band(*_Fleet.SLOW, "slow")
    kinds: tuple[tuple[Mode, str, str], ...] = (("off", "plain", "strain off"), ("enforce", "ours", "strain on"))
    for mode, kind, label in kinds:
        chart.steps([(float(second), share) for second, share in enumerate(_Fleet(mode).run(45))], kind, label)
    return chart.svg()


# ---------------------------------------------------------------------------------------------------------------- all of them

ALL: dict[str, Callable[[], str]] = {
    "stack": stack,
    "attempts": attempts,
    "retries": retries,
    "hedging": hedging,
    "breaker": breaker,
    "throttle": throttle,
    "limit": limit,
    "fallback": fallback,
    "balancing": balancing,
    "ejection": ejection,
    "strain": strain,
    "nodes": nodes,
    "connections": connections,
}
"""Every picture by its name; the page of the same name shows it."""


def path_of(name: str, language: str) -> Path:
    """Where a picture stands."""
    return DOCS / language / "explanation" / "figures" / "policies" / f"{name}.svg"


def drawn(name: str, language: str) -> str:
    """Draw a picture."""
    if language == "en":
        return ALL[name]()
    return in_chinese(stack(chinese) if name == "stack" else ALL[name]())


def main() -> int:
    """Compare the pictures with what the machines do now, or write them with --write."""
    stale = 0
    for name, language in product(ALL, LANGUAGES):
        path, picture = path_of(name, language), drawn(name, language)
        if path.exists() and path.read_text("utf-8") == picture:
            continue
        stale += 1
        if "--write" in sys.argv[1:]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(picture, "utf-8")
        print(f"{path.relative_to(DOCS)}: {'written' if '--write' in sys.argv[1:] else 'not what the machine does'}")
    return 0 if "--write" in sys.argv[1:] else min(stale, 1)


if __name__ == "__main__":
    sys.exit(main())
