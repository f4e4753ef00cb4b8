"""Taking out a node that does worse than its peers, however few calls there are to judge by.

The rule is one sentence: a node is ejected when we are 99 % sure that the share of its attempts that fail is above the median of its
peers plus a margin. How sure we are is computed, not guessed from a minimum of calls: what the node did is weighed against the
presumption that it is like its peers, which counts as much as `PRIOR` attempts (a Beta distribution). So a node that fails always is out
after five failures at one call a second, one that fails half of its calls after some twelve, and one that fails 15 % where the others
fail nothing after some hundreds. Envoy's and gRPC's detectors need 100 requests per host in ten seconds for that, which few Python
services have (algorithms.md 2.16, field-notes.md 4.12).

How far it looks back: the last interval; while that leaves it in doubt, twice as long, and again, up to five minutes. The shortest time
that decides counts, so a node that has recovered is not judged by what it did before, and one that has just died not by its good past.
Peers are looked at over the same time: when all fail, because of something behind all of them or because of us, the median says so and
nobody is out.

With two nodes there is no telling which is the odd one, so it takes three. Envoy asks for five because a standard deviation means
nothing below that; a median of two others does, and three nodes are what most people have. One of three is then the most that is taken.

It costs a call nothing: attempts and failures are counted by the node for its own sake, and read here once per interval.

What may never happen here: an await, a clock; more nodes out than the cap, a node out for ever; two punishments for one fault: a node whose
breaker is shut is left to the breaker, and is judged afterwards by what it does afterwards.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Sequence
from typing import NamedTuple, get_args

import msgspec

from ..errors import ConfigError
from ..facts import Emit, NodeEjected, discard
from ..handler import Mode
from .endpoint import Node

PRIOR = 8.0
"""How many attempts the presumption is worth that a node is like its peers. Less would let the first failures of a good node decide."""

PRIOR_LEAST = 0.02
"""Nobody is presumed perfect, nor hopeless: below this share, and above one less it, the presumption would be a certainty."""

PEERS_MIN = 2
PEER_ATTEMPTS_MIN = 5
"""Of a peer with fewer attempts we do not know what it is like."""


class EjectConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When a node is taken out, and for how long.

    Attributes:
        mode: `enforce` takes it out, `shadow` only counts that it would have, `off` looks at nothing.
        interval_s: how often it is looked. 10 as everybody has it: the breaker is there for what must be noticed at once.
        window_max_s: how far back it looks at most. 300: a fault that takes longer to show is not urgent.
        margin: how much worse than its peers' median a node must be. 0.1: less than that is not worth a tenth of the capacity.
        confidence: how sure we must be of it. 0.99.
        failures_min: with fewer failures nobody is out, whatever the arithmetic says. 5, as many in a row as trip a breaker.
        base_s, max_s: it is out for the base times the number of its ejections, at most for `max_s`; an interval in which it does well
            takes one off that number. 30 to 300: a restart takes less than the base, and at the maximum a lost cause costs one call in
            many.
        share_max: at most this share of the nodes is out at a time, but one of them may always be. 0.1.
    Raises: ConfigError naming the field that makes no sense.
    """

    mode: Mode = "enforce"
    interval_s: float = 10.0
    window_max_s: float = 300.0
    margin: float = 0.1
    confidence: float = 0.99
    failures_min: int = 5
    base_s: float = 30.0
    max_s: float = 300.0
    share_max: float = 0.1

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError(f"mode={self.mode!r}: expected one of {', '.join(get_args(Mode))}")
        if not 0.1 <= self.interval_s <= self.window_max_s <= 3600:
            raise ConfigError(
                f"interval_s={self.interval_s!r}, window_max_s={self.window_max_s!r}: expected at least 0.1 and 3600 seconds at most,"
                " the interval no longer than the window"
            )
        if not 0 < self.base_s <= self.max_s < math.inf:
            raise ConfigError(
                f"base_s={self.base_s!r}, max_s={self.max_s!r}: expected seconds above 0, the base no longer than the maximum"
            )
        if not PRIOR_LEAST <= self.margin < 1:
            raise ConfigError(f"margin={self.margin!r}: expected a share from {PRIOR_LEAST} to below 1, such as 0.1")
        if not 0.9 <= self.confidence < 1:
            raise ConfigError(f"confidence={self.confidence!r}: expected a share from 0.9 to below 1, such as 0.99")
        if not 0 < self.share_max <= 1:
            raise ConfigError(f"share_max={self.share_max!r}: expected a share above 0, at most 1")
        if self.failures_min < 1:
            raise ConfigError(f"failures_min={self.failures_min!r}: expected at least 1")


DEFAULT_CONFIG = EjectConfig()


class Ejection(NamedTuple):
    """A node to take out, why, and for how many seconds."""

    node: Node
    reason: str
    for_s: float


class Sweep(NamedTuple):
    """What is different: nodes that are out from now on, and nodes that are back. Empty in shadow."""

    ejected: Sequence[Ejection]
    back: Sequence[Node]


NOTHING = Sweep((), ())


class _Record:
    """What is known of one node.

    Attributes:
        settled, failed: its attempts that are over, and those that failed, when it was looked at last.
        marks: when it was looked at, and these two then, oldest first.
        times: how often it was ejected, less what it made good.
        until: until when it is out, or would be; 0 when it is not.
        began: what it had failed, and of that by load, when its past was forgotten last.
        by_load: it is out, and failed mostly by being too slow.
    """

    __slots__ = ("began", "by_load", "failed", "marks", "node", "settled", "times", "until")

    def __init__(self, node: Node, at: float) -> None:
        self.node = node
        self.settled = self.failed = 0
        self.marks: list[tuple[float, int, int]] = [(at, 0, 0)]
        self.times = 0
        self.until = 0.0
        self.began = (0, 0)
        self.by_load = False

    def read(self) -> None:
        node = self.node
        self.settled = node.attempts - node.pending - node.given_up
        self.failed = node.failures

    def forget(self, now: float) -> None:
        self.read()
        self.marks = [(now, self.settled, self.failed)]
        self.began = (self.failed, self.node.late)

    def counts(self, intervals: int) -> tuple[int, int]:
        """Attempts and failures in so many of the last intervals, or in as many as are known."""
        marks = self.marks
        _, settled, failed = marks[-1 - intervals] if len(marks) > intervals else marks[0]
        return self.settled - settled, self.failed - failed


class Ejector:
    """Judges the nodes of one client. Call `sweep` whenever `next_at` has come; the balancer does the rest.

    In `enforce` it sets `ejected_until` of the nodes it takes out, and sets it back to 0 when their time is up.

    Attributes:
        next_at: when there is something to do next; inf when it is off.
        ejections: how many nodes were taken out so far.
        would: how many would have been, in shadow. The same number, for the same attempts: what a node does while it is out, or would be,
            is not looked at.
        out: how many are out now, or would be.
    """

    __slots__ = ("_config", "_emit", "_judge_at", "_judged_at", "_records", "_spans", "ejections", "next_at", "out", "would")

    def __init__(self, config: EjectConfig = DEFAULT_CONFIG, emit: Emit = discard, *, now: float = 0.0) -> None:
        self._config = config
        self._emit = emit
        self._records: dict[Node, _Record] = {}
        self._judged_at = now
        self._judge_at = self.next_at = math.inf if config.mode == "off" else now + config.interval_s
        longest = int(config.window_max_s / config.interval_s)
        self._spans = [2**power for power in range(longest.bit_length()) if 2**power < longest] + [longest]
        self.ejections = self.would = self.out = 0

    def excuse(self, nodes: Collection[Node], now: float) -> Sequence[Node]:
        """Most nodes are too slow at once: nobody is out for it, and what they do now says nothing. Return those that are back."""
        if self._config.mode == "off":
            return ()
        self._know(nodes)
        for record in self._records.values():
            if record.until and record.by_load:
                record.until = now
                record.times -= 1
        back = self._take_back(now)
        for record in self._records.values():
            if not record.until:
                record.forget(now)
        self._begin_interval(now)
        self._plan()
        return back if self._config.mode == "enforce" else ()

    def sweep(self, nodes: Collection[Node], now: float) -> Sweep:
        """Take back who has been out for long enough, and judge all others if an interval is over.

        Args:
            nodes: all there are, those that are out as well. A node that is missing is forgotten.
        """
        if now < self.next_at:
            return NOTHING
        self._know(nodes)
        back = self._take_back(now)
        ejected: list[Ejection] = []
        if now >= self._judge_at:
            inside = self._mark(now)
            room = self._room()
            for record, reason in self._to_eject(inside)[:room] if room else ():
                ejected.append(self._eject(record, reason, now))
            self._make_good(inside)
            self._begin_interval(now)
        self._plan()
        return Sweep(ejected, back) if self._config.mode == "enforce" else NOTHING

    def _know(self, nodes: Collection[Node]) -> None:
        """Keep records of these nodes, and of no others."""
        self._records = {node: self._records.get(node) or _Record(node, self._judged_at) for node in nodes}

    def _begin_interval(self, now: float) -> None:
        self._judged_at, self._judge_at = now, now + self._config.interval_s

    def _plan(self) -> None:
        """The next thing to do: to judge, or to take somebody back."""
        self.next_at = min([self._judge_at, *(record.until for record in self._records.values() if record.until)])

    # ------------------------------------------------------------------ out and back

    def _room(self) -> int:
        """How many more may be taken out."""
        count = len(self._records)
        most = 0 if count <= PEERS_MIN else max(1, int(count * self._config.share_max))
        return max(0, most - self.out)

    def _eject(self, record: _Record, reason: str, now: float) -> Ejection:
        config, node = self._config, record.node
        enforced = config.mode == "enforce"
        record.times = min(record.times + 1, math.ceil(config.max_s / config.base_s))
        for_s = min(config.base_s * record.times, config.max_s)
        record.until = now + for_s
        failed, late = record.began
        record.by_load = 2 * (node.late - late) > node.failures - failed
        self.out += 1
        if enforced:
            self.ejections += 1
            node.ejected_until = record.until
        else:
            self.would += 1
        self._emit(NodeEjected(node.key, reason, for_s, enforced))
        return Ejection(node, reason, for_s)

    def _take_back(self, now: float) -> list[Node]:
        back = []
        for record in self._records.values():
            if record.until and record.until <= now:
                record.until = 0.0
                record.forget(now)
                back.append(record.node)
                if self._config.mode == "enforce":
                    record.node.ejected_until = 0.0
        self.out = sum(1 for record in self._records.values() if record.until)
        return back

    def _make_good(self, inside: list[_Record]) -> None:
        """An interval in which a node was called and did well takes one of its ejections off."""
        for record in inside:
            if record.times and not record.until:
                attempts, failures = record.counts(1)
                if attempts and failures <= self._config.margin * attempts:
                    record.times -= 1

    # ------------------------------------------------------------------ judging

    def _mark(self, now: float) -> list[_Record]:
        """Read the counters of all who can be judged, and return those."""
        oldest_at = now - self._config.window_max_s - self._config.interval_s / 2
        inside = []
        for record in self._records.values():
            if record.until:
                continue
            if record.node.gate.shut:
                record.forget(now)
                continue
            record.read()
            marks = record.marks
            marks.append((now, record.settled, record.failed))
            while marks[0][0] < oldest_at:
                del marks[0]
            inside.append(record)
        return inside

    def _to_eject(self, inside: list[_Record]) -> list[tuple[_Record, str]]:
        """Those that are worse than their peers, the worst first."""
        suspects = [record for record in inside if self._is_suspect(record)]
        if not suspects:
            return []
        peers = [self._shares(inside, span) for span in self._spans]
        guilty = [verdict for record in suspects if self._looks_worse(record, peers) and (verdict := self._judge(record, peers))]
        guilty.sort(key=lambda verdict: (-verdict[0], verdict[1].node.key))
        return [(record, reason) for _, record, reason in guilty]

    def _is_suspect(self, record: _Record) -> bool:
        """Whether it could be guilty if its peers failed nothing, which is seen without them."""
        config = self._config
        if record.failed - record.marks[0][2] < config.failures_min:
            return False
        counts = [record.counts(span) for span in self._spans]
        return any(failures >= config.failures_min and failures > config.margin * attempts for attempts, failures in counts)

    def _shares(self, inside: list[_Record], span: int) -> list[float]:
        """The shares of failures of all who were called enough to say, sorted."""
        counts = [record.counts(span) for record in inside]
        return sorted([failures / attempts for attempts, failures in counts if attempts >= PEER_ATTEMPTS_MIN])

    def _looks_worse(self, record: _Record, peers: list[list[float]]) -> bool:
        """Whether it did worse at all than the median and the margin, over any time. When all fail at times, most did not."""
        config = self._config
        for span, shares in zip(self._spans, peers, strict=True):
            attempts, failures = record.counts(span)
            count = len(shares)
            if failures >= config.failures_min and count >= PEERS_MIN:
                least = (shares[(count - 2) // 2] + shares[(count - 1) // 2]) / 2  # the median without one in the upper half
                if failures > (least + config.margin) * attempts:
                    return True
        return False

    def _judge(self, record: _Record, peers: list[list[float]]) -> tuple[float, _Record, str] | None:
        """Look back further and further until it is sure: with what share of failures it is guilty, and why; None when it is not."""
        config = self._config
        for span, shares in zip(self._spans, peers, strict=True):
            attempts, failures = record.counts(span)
            own = failures / attempts if attempts >= PEER_ATTEMPTS_MIN else None
            if len(shares) - (own is not None) < PEERS_MIN:
                continue
            median = median_without(shares, own)
            sure = worse(attempts, failures, median, config.margin)
            if sure > config.confidence and failures >= config.failures_min:
                reason = f"{failures} of {attempts} attempts failed in {span * config.interval_s:g} s; of its peers' {100 * median:.0f} %"
                return failures / attempts, record, reason
            if sure < 1 - config.confidence:
                return None
        return None


# ---------------------------------------------------------------------------------------------------------------- the arithmetic


def median_without(shares: Sequence[float], own: float | None) -> float:
    """Return the median of sorted `shares`, less one that equals `own`; of an even number the mean of the two in the middle."""
    count = len(shares)
    skipped = count
    if own is not None:
        skipped = bisect_left(shares, own)
        count -= 1
    low, high = (count - 1) // 2, count // 2
    return (shares[low + (low >= skipped)] + shares[high + (high >= skipped)]) / 2


def worse(attempts: int, failures: int, median: float, margin: float) -> float:
    """Return how sure it is, 0 to 1, that a node with so many failures in so many attempts fails more than `median` + `margin`."""
    if median + margin >= 1:
        return 0.0
    presumed = min(max(median, PRIOR_LEAST), 1 - PRIOR_LEAST)
    return beta_above(PRIOR * presumed + failures, PRIOR * (1 - presumed) + attempts - failures, median + margin)


LARGE = 5000.0
"""From so many attempts on, a Beta distribution is a normal one as far as a decision at 1 % can tell."""

CLOSE = 1e-12
TINY = 1e-300


def beta_above(a: float, b: float, x: float) -> float:
    """Return the probability that a number drawn from Beta(a, b) is above `x`; a, b > 0, 0 < x < 1. Good to 1e-9 below `LARGE`, 1e-3 above.

    The continued fraction of the incomplete beta function, which converges quickly on one side of the mean; the other is its mirror image.
    """
    if a + b > LARGE:
        mean = a / (a + b)
        deviation = math.sqrt(mean * (1 - mean) / (a + b + 1))
        return 0.5 * math.erfc((x - mean) / (deviation * math.sqrt(2)))
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return 1.0 - front * _fraction(a, b, x) / a
    return front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    """The continued fraction for the incomplete beta function, by Lentz's method."""
    c, d = 1.0, 1 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 1000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / _not_zero(1 + term * d)
            c = _not_zero(1 + term / c)
            value *= c * d
        if abs(c * d - 1) < CLOSE:
            break
    return value


def _not_zero(number: float) -> float:
    return number if abs(number) > TINY else TINY
