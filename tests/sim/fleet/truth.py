"""What really happened in a world of many nodes: the ledger of the spine campaign, and an account of every client beside it.

Owns: the accounts (what each client sent, what its retry budget granted, what may begin at a node whose breaker is open), the moods of the
nodes, the file of nodes that the clients watch, and the points that a campaign must reach. The spies watch production code from outside.

What may never happen here: an effect on the world. A spy reads and notes; it makes no task, draws no number, and sends nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from holdfast import facts
from holdfast.balance import resolve
from holdfast.balance.picker import SlowStart
from holdfast.calling.core import Core
from holdfast.control.budget import RetryBudget
from holdfast.facts import Fact
from holdfast.policy.breaker import Breaker
from holdfast.rpc.caller import CallerSession
from holdfast.rpc.dialer import CATALOGUE_METHOD
from holdfast.sim import LoadModel, World
from holdfast.sim.cpu import Cpu
from tests.sim.spine import truth as spine_truth
from tests.sim.spine.drawing import PAPERS
from tests.sim.spine.truth import Emitter as SpineEmitter

from .backlog import Backlog, watching

SOMETIMES = (
    "a call was tried again",
    "a call was executed twice, as it may",
    "a retry was denied: budget",
    "a retry was denied: attempts",
    "a retry was denied: deadline",
    "a retry was denied: not_idempotent",
    "a call was hedged",
    "a hedge won",
    "a hedge lost",
    "a breaker opened",
    "a breaker let a probe in",
    "a breaker closed",
    "a probe failed",
    "a probe was given up",
    "a breaker in shadow opened",
    "a node was ejected",
    "a node would have been ejected",
    "a node came back from its ejection",
    "panic began",
    "panic ended",
    "a strain began",
    "a strain ended",
    "a retry was denied: strained",
    "the throttle held a call back",
    "the throttle would have held a call back",
    "the limit held a call back",
    "the limit would have held a call back",
    "the bulkhead held a call back",
    "the queue held a call back",
    "the limit moved",
    "a fallback stood in",
    "a node started slowly",
    "the subset changed",
    "nodes joined",
    "nodes left",
    "a change of the set was held",
    "nodes could not be found",
    "the handlers were full",
    "a goodbye refused a call",
    "an outcome was unknown",
    "the deadline passed in a handler",
    "a node could not be reached",
    "a client connected again",
    "a caller was cancelled",
    "a healthy node was promised, and the call came to good",
    "a node went down under calls, and none failed",
)
"""Points that a campaign must reach."""

EPSILON = 1e-6
TURNS_MAX_PER_S = 5000
"""Of a client's loop. The busiest one, with thirty calls at once over sliced connections, has a thousand."""

PATH = "/etc/fleet.nodes"
"""The file of nodes; it is in the world, not on a disk."""


class Period:
    """One time for which a breaker is open: how many attempts may begin there until it opens anew, or closes.

    Attributes:
        begun: the node's attempts when it began. may: one for the probe, and one more for each probe that was given up.
        judged: False once it says nothing: in panic, with fewer than three nodes, or when the breaker does not act.
    """

    __slots__ = ("begun", "judged", "may")

    def __init__(self, begun: int, judged: bool) -> None:
        self.begun = begun
        self.may = 1
        self.judged = judged


class Account:
    """What one client, of one process, has done.

    Attributes:
        sends: how often each call was sent, by its number.
        granted: attempts that its retry budget let it make. used_at: since when it had one, None before.
        denied_at, held_at: when the budget last said no, and when a policy last kept a call in.
    """

    def __init__(self, truth: Truth, core: Core) -> None:
        self.truth = truth
        self.core = core
        process: Any = truth.world._engine.current
        self.process = process
        self.name: str = process.host
        self.sends: Counter[int] = Counter()
        self.granted = 0
        self.used_at: float | None = None
        self.denied_at = self.held_at = -1.0
        self.periods: dict[Any, Period] = {}
        self.rock: Any = None
        self.subset: frozenset[str] = frozenset()
        self.ejected: frozenset[str] = frozenset()
        self._turns = (0.0, 0)

    def sent(self, number: int) -> None:
        """A call goes out on a connection."""
        self.sends[number] += 1
        self.look()

    def look(self) -> None:
        """The invariants of an account that hold at every moment: `attempts` and `one-probe`."""
        need, core = self.truth.require, self.core
        sent = self.sends.total()
        extra = sent - len(self.sends)
        need(extra <= self.granted, "attempts", f"{self.name}: {extra} attempts beyond the first, the budget granted {self.granted}")
        budget = core.budget
        if budget.mode == "enforce" and self.used_at is not None:
            passed_s = max(self.process.loop.time() - self.used_at, budget.ttl_s)
            most = core.number * (1 + budget.share) + budget.floor_per_s * passed_s + EPSILON
            text = f"{self.name}: {sent} attempts of {core.number} calls in {passed_s:.3f} s, allowed are {most:.2f}"
            need(sent <= most, "attempts", text)
        for node in self.periods:
            self.look_at(node)

    def turned(self, now: float) -> None:
        """A loop that has next to nothing to do does not turn and turn: `no-spin`."""
        (at, before), turns = self._turns, self.process.turns
        if at and now > at:
            rate = (turns - before) / max(now - at, 0.05)
            self.truth.require(rate <= TURNS_MAX_PER_S, "no-spin", f"{self.name}: its loop turns {rate:.0f} times a second")
        self._turns = (now, turns)

    def look_at(self, node: Any) -> None:
        """While a breaker is open, one attempt goes in, not two."""
        period = self.periods[node]
        balancer = self.core.balancer
        if balancer.panicking or len(balancer.nodes) < 3 or not node.gate.enforced:
            period.judged = False
        if period.judged:
            begun = node.attempts - period.begun
            text = f"{self.name}: {begun} attempts began at {node.key} while its breaker was open ({node.gate.reason}), {period.may} may"
            self.truth.require(begun <= period.may, "one-probe", text)

    def became(self, breaker: Breaker, state: str, reason: str) -> None:
        """A breaker of a node of this client has changed."""
        node = breaker.owner
        if reason == "the probe was given up":
            self.truth.reached("a probe was given up")
            if node in self.periods:
                self.periods[node].may += 1
        elif state != "probing":
            if node in self.periods:
                self.look_at(node)
                del self.periods[node]
            if state == "open":
                self.periods[node] = Period(node.attempts, breaker.enforced)
                self.look_at(node)


class Truth(spine_truth.Truth):
    """The ledger of one world.

    Attributes:
        accounts: of every client there was.
        moods: how each node is, by its host: `slow`, `failing`, `refusing`, `stuck`, with a number.
        models: what bounds the capacity of each node, by its host.
        file: what stands in the file of nodes, and how often it was written; None: it cannot be read.
        backlog: when which process was behind.
    """

    def __init__(self, world: World) -> None:
        super().__init__(world)
        self.accounts: list[Account] = []
        self.moods: dict[str, tuple[str, float]] = {}
        self.models: dict[str, LoadModel] = {}
        self.file: bytes | None = None
        self.written = 0
        self.claims = 0
        self.backlog = Backlog()
        self._of: dict[int, Account] = {}

    def stalled_s(self, process: Cpu, since: float) -> float:
        """As in the spine, and for as long as the host has not caught up with what piled up meanwhile."""
        return self.backlog.behind_s(process, since)

    # ------------------------------------------------------------------------------------------------------------ the nodes

    @property
    def here(self) -> str:
        """The host whose program runs at this moment."""
        process: Any = self.world._engine.current
        host: str = process.host
        return host

    def write(self, lines: list[str] | None) -> None:
        """Write the file of nodes."""
        self.written += 1
        self.file = None if lines is None else "\n".join(lines).encode()

    # ---------------------------------------------------------------------------------------------------------- the accounts

    def opened(self, core: Core) -> None:
        """A client was entered."""
        account = Account(self, core)
        self.accounts.append(account)
        for part in (core, core._shared, core.budget):
            self._of[id(part)] = account  # all of them are kept by the account

    def account_of(self, part: object) -> Account | None:
        """Of the client that this belongs to."""
        return None if self.world._engine.over else self._of.get(id(part))

    def told(self, account: Account, fact: Fact) -> None:
        """Turn what a client says into points, and into what its account needs to know."""
        if self.world._engine.over:
            return
        if isinstance(fact, facts.RetryDenied):
            if fact.reason in ("budget", "attempts", "deadline", "not_idempotent", "strained"):
                self.reached(f"a retry was denied: {fact.reason}")
            if fact.reason == "budget":
                account.denied_at = self.now()
        elif isinstance(fact, facts.CallHeldBack):
            self.reached(f"the {fact.by} {'held' if fact.enforced else 'would have held'} a call back")
            if fact.enforced:
                account.held_at = self.now()
        elif isinstance(fact, facts.BreakerChanged):
            self._breaker(fact)
        elif isinstance(fact, facts.NodeEjected):
            self.reached("a node was ejected" if fact.enforced else "a node would have been ejected")
        elif isinstance(fact, facts.PanicChanged):
            self.reached("panic began" if fact.on else "panic ended")
        elif isinstance(fact, facts.StrainChanged):
            self.reached("a strain would have begun" if not fact.enforced else "a strain began" if fact.on else "a strain ended")
        elif isinstance(fact, facts.NodesChanged):
            for holds, point in (
                (fact.added, "nodes joined"),
                (fact.removed, "nodes left"),
                (fact.held, "a change of the set was held"),
            ):
                if holds:
                    self.reached(point)
        elif isinstance(fact, facts.CallExplained):
            self.explained(fact.record)
        elif type(fact) in _POINTS:
            self.reached(_POINTS[type(fact)])

    def _breaker(self, fact: facts.BreakerChanged) -> None:
        if not fact.enforced:
            if fact.state == "open":
                self.reached("a breaker in shadow opened")
        elif fact.state == "open":
            self.reached("a probe failed" if fact.reason == "a probe that failed" else "a breaker opened")
        else:
            self.reached("a breaker closed" if fact.state == "closed" else "a breaker let a probe in")

    def explained(self, record: Any) -> None:
        """What the record of a call says of its hedges."""
        for trial in record.attempts:
            if trial.kind == "hedge":
                self.reached("a hedge won" if trial.outcome == "ok" else "a hedge lost")

    def look(self, rocks: tuple[str, ...]) -> None:
        """Look at every account, from outside.

        Args:
            rocks: the addresses that the node has to which nothing happens.
        """
        for account in self.accounts:
            if not account.process.alive:
                continue
            account.look()
            core = account.core
            account.turned(self.now())
            ejected = frozenset(node.key for node in core.balancer.nodes.values() if node.ejected_until)
            if account.ejected - ejected:
                self.reached("a node came back from its ejection")
            account.ejected = ejected
            node = next((core.balancer.nodes[each] for each in rocks if each in core.balancer.nodes), None)
            if node is not None and node.state == "ready":
                account.rock = node
            subset = frozenset(core.balancer.nodes)
            if len(core.nodes._members.current) > len(subset) > 0 and account.subset and subset != account.subset:
                self.reached("the subset changed")
            account.subset = subset


_POINTS: dict[type[Fact], str] = {
    facts.CallHedged: "a call was hedged",
    facts.LimitChanged: "the limit moved",
    facts.FallbackUsed: "a fallback stood in",
    facts.ResolveFailed: "nodes could not be found",
    facts.ConnectFailed: "a node could not be reached",
}


class Emitter(SpineEmitter):
    """The ear of one client, which knows whose account it is: the newest of the process that is running."""

    _account: Account | None = None

    def __call__(self, fact: Fact) -> None:
        super().__call__(fact)
        truth = self._truth
        assert isinstance(truth, Truth)
        if self._account is None:
            process = truth.world._engine.current
            self._account = next((each for each in reversed(truth.accounts) if each.process is process), None)
        if self._account is not None:
            truth.told(self._account, fact)


# ---------------------------------------------------------------------------------------------------------------------- the spies


@contextmanager
def spying(truth: Truth) -> Iterator[None]:
    """Inside, production code is watched: by the spies of the spine, and by those that keep the accounts."""

    def core_made(core: Any, _: None, *args: Any) -> None:
        truth.opened(core)

    def opened(session: Any, sent: bool | None, first: Any, second: Any, *rest: Any, **named: Any) -> None:
        call = second if sent is None else first  # `_open(request, call, …)` raises when it does not; `open_unary(call, …)` says so
        account = truth.account_of(session._shared)
        if sent is not False and account is not None and call.method != CATALOGUE_METHOD:
            account.sent(call.number)

    def took(budget: Any, granted: bool, now: float) -> None:
        account = truth.account_of(budget)
        if account is not None:
            account.granted += granted
            account.used_at = now if account.used_at is None else account.used_at

    def deposited(budget: Any, _: None, now: float) -> None:
        account = truth.account_of(budget)
        if account is not None and account.used_at is None:
            account.used_at = now

    def became(breaker: Any, _: None, state: str, now: float, reason: str, **rest: Any) -> None:
        node = breaker.owner
        account = truth.account_of(node.target._shared) if node is not None else None
        if account is not None:
            account.became(breaker, state, reason)

    def factor(slow_start: Any, share: float, *args: Any) -> None:
        if share < 1.0:
            truth.reached("a node started slowly")

    watched: list[tuple[Any, str, Callable[..., None]]] = [
        (Core, "__init__", core_made),
        (CallerSession, "open_unary", opened),
        (CallerSession, "_open", opened),
        (RetryBudget, "take", took),
        (RetryBudget, "roll", deposited),
        (Breaker, "_become", became),
        (SlowStart, "factor", factor),
    ]
    undo = [_after(owner, name, spy) for owner, name, spy in watched]
    trusted = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(PAPERS / "authority.pem")  # a file may name nodes with TLS; to read what all trust takes long
    stamp, content = resolve._stamp_of, resolve._content_of
    resolve._stamp_of = lambda path: _stamp(truth, path)
    resolve._content_of = lambda path: _content(truth, path)
    try:
        with spine_truth.spying(truth), watching(truth.backlog):
            yield
    finally:
        resolve._stamp_of, resolve._content_of = stamp, content
        del os.environ["SSL_CERT_FILE"]
        if trusted is not None:
            os.environ["SSL_CERT_FILE"] = trusted
        for each in reversed(undo):
            each()


def _stamp(truth: Truth, path: str) -> int:
    _content(truth, path)
    return truth.written


def _content(truth: Truth, path: str) -> bytes:
    if truth.file is None:
        raise FileNotFoundError(2, "there is no such file", path)
    return truth.file


def _after(owner: Any, name: str, spy: Callable[..., None]) -> Callable[[], None]:
    real = owner.__dict__[name]

    def watched(self: Any, *args: Any, **how: Any) -> Any:
        result = real(self, *args, **how)
        spy(self, result, *args, **how)
        return result

    setattr(owner, name, watched)
    return lambda: setattr(owner, name, real)
