"""The weather of a world, drawn from its seed: which faults there are at all, how often, how strong, and how fast everything is.

Owns: `Climate`, what a scenario says may fail, and the draw. Theory (swarm testing): one climate for every seed finds little, because
faults mask each other, and because the average of everything is always the same. So each seed draws which kinds of fault exist for it, and
how long the gaps between them are, over an order of magnitude and more: a world with nothing but resets, one with a kill every 50 ms, one
that is calm and slow.

Every incident ends by `calm_at_s`: what was cut is repaired, what was killed runs again. What happens then is the liveness phase
(`scenario.py`).

What may never happen here: a draw that depends on anything but the seed and the climate, or a fault that outlasts the calm.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import msgspec

from ..clock import Rng, Streams
from ..errors import ConfigError
from .faults import Fault, FaultPlan
from .options import WorldOptions

T = TypeVar("T")

LinkIncident = Literal["partition", "one_way", "hold", "swizzle", "reset"]
HostIncident = Literal["kill", "power_loss", "stall", "pause", "clock_jump", "clock_drift", "descriptors"]
Incident = LinkIncident | HostIncident

LINK_INCIDENTS: tuple[Incident, ...] = get_args(LinkIncident)
HOST_INCIDENTS: tuple[Incident, ...] = get_args(HostIncident)
USUAL: tuple[Incident, ...] = tuple(each for each in LINK_INCIDENTS + HOST_INCIDENTS if each != "descriptors")
"""Few descriptors are left out unless asked for: most programs are not meant to stand that."""

CALM_CHANCE = 0.05
"""Worlds without any fault: what fails in these needs none, and the story of it is the shortest."""

AT_ONCE_CHANCE = 0.2
AT_ONCE_S = 0.01
"""How often an incident comes right after another, and how soon: the code that mends is the code that is tested least."""

INCIDENTS_MAX = 400
"""Faults of one world; more than that is noise."""


@dataclass(frozen=True, kw_only=True)
class Climate:
    """What may fail in a scenario.

    Args:
        hosts: machines that may be killed, lose power, stand still, have wrong clocks. One that is killed starts again, with what it was
            given to run; a host whose program must not be cut off (the one that counts the answers) is not in this list.
        links: pairs of hosts whose network may fail; a side may be several, joined by commas: they are cut off together.
        kinds: the incidents that may be drawn; those for links need `links`, those for hosts need `hosts`.
        begin_s: no fault before; the scenario sets up meanwhile.
        calm_at_s: no fault after.
        physics: whether latency, stalls, segmentation and timers are drawn too.
    Raises: ConfigError when nothing may fail, or an incident is unknown.
    """

    hosts: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    kinds: tuple[Incident, ...] = USUAL
    begin_s: float = 0.05
    calm_at_s: float = 10.0
    physics: bool = True

    def __post_init__(self) -> None:
        unknown = [each for each in self.kinds if each not in LINK_INCIDENTS + HOST_INCIDENTS]
        if unknown:
            raise ConfigError(f"climate: there is no incident {unknown[0]!r}; there are {', '.join(LINK_INCIDENTS + HOST_INCIDENTS)}")
        if isinstance(self.hosts, str) or any(isinstance(each, str) or len(each) != 2 for each in self.links):
            raise ConfigError('climate: expected hosts=("server",) and links=(("server", "client"),), with the commas')
        if not self._possible():
            raise ConfigError("climate: nothing may fail; give hosts, or links, and kinds that fit")
        if not 0 <= self.begin_s < self.calm_at_s:
            raise ConfigError(f"climate: begin_s={self.begin_s:g}, calm_at_s={self.calm_at_s:g}: expected the calm after the beginning")

    def _possible(self) -> list[Incident]:
        return [each for each in self.kinds if (self.links if each in LINK_INCIDENTS else self.hosts)]

    def which_names(self, host: str) -> str:
        """The argument that names a host: `hosts`, `links`, or nothing."""
        in_links = {each for pair in self.links for side in pair for each in side.split(",")}
        return "hosts" if host in self.hosts else "links" if host in in_links else ""

    def draw(self, seed: int) -> FaultPlan:
        """The faults of a seed, in order of time."""
        rng = Streams(seed).stream("climate")
        if rng.random() < CALM_CHANCE:
            return FaultPlan()
        possible = self._possible()
        kinds = [each for each in possible if rng.random() < 0.5] or [_pick(rng, possible)]
        gap_s = 10 ** rng.uniform(-1.3, 0.3)
        long_s = 10 ** rng.uniform(-2.0, 0.5)
        faults: list[Fault] = []
        at_s = self.begin_s
        for _ in range(INCIDENTS_MAX):
            at_s += rng.uniform(0, AT_ONCE_S) if rng.random() < AT_ONCE_CHANCE else _exponential(rng, gap_s)
            if at_s >= self.calm_at_s:
                break
            faults += self._incident(rng, _pick(rng, kinds), at_s, long_s)
        return FaultPlan.of(faults)

    def weather(self, seed: int, options: WorldOptions) -> WorldOptions:
        """The physics of a seed: latency over two orders of magnitude, and what else differs between one data centre and the next."""
        if not self.physics:
            return options
        rng = Streams(seed).stream("physics")
        scale = 10 ** rng.uniform(-1, 1.3)
        stall_chance, stall_max_s = _pick(rng, [(0.0, 0.0), (0.0, 0.0), (0.002, 1.0), (0.02, 0.1)])
        return msgspec.structs.replace(
            options,
            latency_s=options.latency_s * scale,
            jitter_s=options.jitter_s * scale,
            slice_chance=_pick(rng, [0.0, options.slice_chance, 0.9]),
            stall_chance=stall_chance,
            stall_max_s=stall_max_s,
            callback_s=options.callback_s * 10 ** rng.uniform(-0.5, 0.5),
        )

    def _incident(self, rng: Rng, kind: Incident, at_s: float, long_s: float) -> list[Fault]:
        """The faults of one incident: what goes wrong and, where it does not pass by itself, what puts it right again."""
        for_s = min(_exponential(rng, long_s), self.calm_at_s - at_s)
        if kind == "swizzle":
            return self._swizzle(rng, at_s, for_s)
        if kind in LINK_INCIDENTS:
            target, other = _pick(rng, self.links)
            if rng.random() < 0.5:
                target, other = other, target
            return _on_link(kind, at_s, at_s + for_s, target, other)
        return _ON_HOST[kind](rng, at_s, at_s + for_s, _pick(rng, self.hosts))

    def _swizzle(self, rng: Rng, at_s: float, for_s: float) -> list[Fault]:
        """FoundationDB's: clog some links one after the other, and unclog them in another order."""
        some = [each for each in self.links if rng.random() < 0.7] or [self.links[0]]
        holds = [Fault(at_s + rng.uniform(0, for_s / 2), "hold", one, (other,)) for one, other in some]
        releases = [Fault(at_s + rng.uniform(for_s / 2, for_s), "release", one, (other,)) for one, other in some]
        return holds + releases


def in_words(options: WorldOptions) -> str:
    """What a world is like, for people: `latency 0.3 to 4.0 ms, segments cut 10 %, no stalls`."""
    slow_ms, fast_ms = (options.latency_s + options.jitter_s) * 1000, options.latency_s * 1000
    stalls = (
        f"stalls of up to {options.stall_max_s:g} s in {options.stall_chance:.1%} of callbacks" if options.stall_chance else "no stalls"
    )
    return f"latency {fast_ms:.2g} to {slow_ms:.2g} ms, segments cut {options.slice_chance:.0%}, {stalls}"


def _pick(rng: Rng, items: Sequence[T]) -> T:
    return items[rng.randrange(len(items))]


def _exponential(rng: Rng, mean_s: float) -> float:
    return -mean_s * math.log(1.0 - rng.random())


def _on_link(kind: Incident, begin_s: float, end_s: float, target: str, other: str) -> list[Fault]:
    if kind == "reset":
        return [Fault(begin_s, "reset", target, (other,))]
    if kind == "hold":
        return [Fault(begin_s, "hold", target, (other,)), Fault(end_s, "release", target, (other,))]
    args = (other, True) if kind == "one_way" else (other,)
    return [Fault(begin_s, "partition", target, args), Fault(end_s, "repair", target, (other,))]


def _down(kind: str) -> Callable[[Rng, float, float, str], list[Fault]]:
    return lambda rng, begin_s, end_s, host: [Fault(begin_s, kind, host), Fault(end_s, "restart", host)]


def _still(kind: str) -> Callable[[Rng, float, float, str], list[Fault]]:
    return lambda rng, begin_s, end_s, host: [Fault(begin_s, kind, host, (end_s - begin_s,))]


def _jump(rng: Rng, begin_s: float, end_s: float, host: str) -> list[Fault]:
    return [Fault(begin_s, "clock_jump", host, (_pick(rng, [-1, 1]) * 10 ** rng.uniform(-2, 4),))]


def _drift(rng: Rng, begin_s: float, end_s: float, host: str) -> list[Fault]:
    return [
        Fault(begin_s, "clock_drift", host, (1 + _pick(rng, [-1, 1]) * 10 ** rng.uniform(-5, -1),)),
        Fault(end_s, "clock_drift", host, (1.0,)),
    ]


def _descriptors(rng: Rng, begin_s: float, end_s: float, host: str) -> list[Fault]:
    few, many = rng.randrange(13), WorldOptions().descriptors
    return [Fault(begin_s, "descriptors", host, (few,)), Fault(end_s, "descriptors", host, (many,))]


_ON_HOST: dict[Incident, Callable[[Rng, float, float, str], list[Fault]]] = {
    "kill": _down("kill"),
    "power_loss": _down("power_loss"),
    "stall": _still("stall"),
    "pause": _still("pause"),
    "clock_jump": _jump,
    "clock_drift": _drift,
    "descriptors": _descriptors,
}


# ------------------------------------------------------------------------------------------------------------------------ units

_MENDS = {
    "kill": ("restart",),
    "power_loss": ("restart",),
    "partition": ("repair",),
    "hold": ("release", "repair"),
    "clock_drift": ("clock_drift",),
    "descriptors": ("descriptors",),
    "memory": ("memory",),
}
"""What puts a fault right again, so that they are left out together: half an incident is another fault, and a worse one."""


def units(faults: tuple[Fault, ...]) -> list[tuple[int, ...]]:
    """The numbers of the faults, those of one incident together: each with the first later one that mends it and mends nothing else."""
    taken: dict[int, None] = {}
    found: list[tuple[int, ...]] = []
    for number in range(len(faults)):
        if number in taken:
            continue
        mending = _mended_by(faults, number, taken)
        taken[number] = None
        if mending is not None:
            taken[mending] = None
        found.append((number,) if mending is None else (number, mending))
    return found


def _mended_by(faults: tuple[Fault, ...], number: int, taken: dict[int, None]) -> int | None:
    broken = faults[number]
    for kind in _MENDS.get(broken.kind, ()):
        for later in range(number + 1, len(faults)):
            if later not in taken and faults[later].kind == kind and _same_place(broken, faults[later]):
                return later
    return None


def _same_place(one: Fault, other: Fault) -> bool:
    if one.target != other.target:
        return False
    return one.kind not in ("partition", "hold") or one.args[:1] == other.args[:1]
