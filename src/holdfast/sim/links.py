"""Links: what lies between two hosts, one for each direction, and what can be done to it.

Owns: how long a packet takes (latency, jitter, bandwidth), what a datagram may suffer (loss, duplication, reordering), and the packets of
streams that cannot get through: cut by a partition, held, or sent to a machine that is off or stands still. Those wait here, because TCP
sends again: at the times at which its back-off would, once the way is open.

What may never happen here: two packets of one flow that overtake one another, or a packet of a stream that is lost for good.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Protocol

import msgspec

from .engine import Engine

RETRANSMIT_FIRST_S, RETRANSMIT_MAX_S = 0.2, 120.0
"""Linux's first and largest pause before it sends again; it doubles in between."""
QUEUE_MAX_S = 1.0
"""A datagram that would wait longer than this for the wire is dropped; a stream waits."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What a link is like.

    Attributes:
        latency_s, jitter_s: a packet takes between latency and latency plus jitter.
        bandwidth_bytes_per_s: None for as much as there is.
        loss, duplicate, reorder: chances per datagram. A lost packet of a stream comes later: TCP sends it again.
    """

    latency_s: float
    jitter_s: float = 0.0
    bandwidth_bytes_per_s: float | None = None
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0


class Station(Protocol):
    """A machine, as far as links know one."""

    name: str
    links: dict[Any, Link]

    def listens(self) -> bool:
        """Whether a packet that arrives now is taken: it is on, and does not stand still."""


class Flow(Protocol):
    """One direction of a connection."""

    last_at: float
    """When the last packet sent so far arrives."""
    packets: int
    """How many were sent so far: the number of the newest."""
    came: int
    """How many of them were taken at the other end, in order."""
    early: dict[int, tuple[Callable[..., object], tuple[Any, ...]]] | None
    """Those that came before an older one, which waits for a machine that stands still."""

    def stuck(self) -> None:
        """A packet of it waits; nobody knows how long."""


class Link:
    """One direction between two hosts."""

    __slots__ = ("chance", "cut", "free_at", "held", "last_at", "shape", "source", "target", "waiting")

    def __init__(self, source: Station, target: Station, shape: Shape, chance: Random) -> None:
        self.source = source
        self.target = target
        self.shape = shape
        self.chance = chance
        self.cut = False
        self.held = False
        self.free_at = 0.0
        self.last_at = 0.0
        self.waiting: list[tuple[float, Flow | None, int, int, Callable[..., object], tuple[Any, ...]]] = []

    def passes(self) -> bool:
        """Whether a packet sent now gets through."""
        return not self.cut and not self.held and self.target.listens()

    def delay_s(self, now: float, size: int) -> float:
        """How long a packet of that size takes that is sent now."""
        shape = self.shape
        delay_s = shape.latency_s + self.chance.random() * shape.jitter_s
        if shape.bandwidth_bytes_per_s is not None:
            begins = max(now, self.free_at)
            self.free_at = begins + size / shape.bandwidth_bytes_per_s
            delay_s += self.free_at - now
        return delay_s


class Links:
    """All links of a world."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        options = engine.options
        self._shape = Shape(latency_s=options.latency_s, jitter_s=options.jitter_s)
        self._loopback = Shape(latency_s=options.loopback_s / 8, jitter_s=options.loopback_s * 7 / 8)
        self._all: list[Link] = []
        self.carried = 0
        """Packets with something in them, so far: how `settle` knows that it is quiet."""

    def between(self, source: Station, target: Station) -> Link:
        """The link of one direction."""
        link = source.links.get(target)
        if link is None:
            shape = self._loopback if source is target else self._shape
            chance = self._engine.streams.stream(f"link/{source.name}/{target.name}")
            link = source.links[target] = Link(source, target, shape, chance)
            self._all.append(link)
        return link

    def waiting(self) -> int:
        """How many packets cannot get through at this moment."""
        return sum(len(link.waiting) for link in self._all)

    # ------------------------------------------------------------------------------------------------------------------ sending

    def stream(self, source: Station, target: Station, flow: Flow, size: int, arrive: Callable[..., object], *args: Any) -> None:
        """Send a packet of a stream: `arrive(*args)` is called when it is there, after all that the flow sent before."""
        engine = self._engine
        if engine.spent:  # the callback that sends it has slept first
            engine.at(engine.now + engine.spent, self._stream, source, target, flow, size, arrive, args)
        else:
            self._stream(source, target, flow, size, arrive, args)

    def _stream(
        self, source: Station, target: Station, flow: Flow, size: int, arrive: Callable[..., object], args: tuple[Any, ...]
    ) -> None:
        engine, link = self._engine, source.links.get(target)
        if link is None:
            link = self.between(source, target)
        number = flow.packets = flow.packets + 1
        if link.waiting or not link.passes():
            link.waiting.append((engine.now, flow, number, size, arrive, args))
            flow.stuck()
            return
        if size:
            self.carried += 1
        when = engine.now + link.delay_s(engine.now, size)
        if link.shape.loss and link.chance.random() < link.shape.loss:
            when += RETRANSMIT_FIRST_S
        if when < flow.last_at:
            when = flow.last_at
        flow.last_at = when
        engine.at(when, self._arrive, link, flow, number, size, arrive, args)

    def _arrive(self, link: Link, flow: Flow, number: int, size: int, arrive: Callable[..., object], args: tuple[Any, ...]) -> None:
        if not link.target.listens():  # it went off, or stands still, while the packet was under way
            link.waiting.append((self._engine.now, flow, number, size, arrive, args))
            flow.stuck()
        elif number != flow.came + 1:  # an older one came while it stood still, and is sent again
            if flow.early is None:
                flow.early = {}
            flow.early[number] = (arrive, args)
        else:
            flow.came = number
            arrive(*args)
            while flow.early and flow.came + 1 in flow.early:
                flow.came += 1
                arrive, args = flow.early.pop(flow.came)
                arrive(*args)

    def datagram(self, source: Station, target: Station, size: int, arrive: Callable[..., object], *args: Any) -> str | None:
        """Send a datagram. Returns: why it is lost, if it is."""
        engine, link = self._engine, self.between(source, target)
        now, shape, chance = engine.now + engine.spent, link.shape, link.chance
        if link.held:
            link.waiting.append((now, None, 0, size, arrive, args))
            return None
        if link.cut:
            return "cut"
        if link.free_at - now > QUEUE_MAX_S:
            return "queue full"
        self.carried += 1
        copies = 2 if shape.duplicate and chance.random() < shape.duplicate else 1
        lost = 0
        for _ in range(copies):
            if shape.loss and chance.random() < shape.loss:
                lost += 1
                continue
            when = link.last_at = max(now + link.delay_s(now, size), link.last_at)  # a path is a queue: jitter alone reorders nothing
            if shape.reorder and chance.random() < shape.reorder:
                when += (0.1 + chance.random()) * 4 * (shape.latency_s + shape.jitter_s)
            engine.at(when, self._arrive_datagram, link, arrive, args)
        return "lost" if lost == copies else None

    def _arrive_datagram(self, link: Link, arrive: Callable[..., object], args: tuple[Any, ...]) -> None:
        if link.target.listens():
            arrive(*args)

    # ------------------------------------------------------------------------------------------------------- what is done to them

    def reshape(self, source: Station, target: Station, shape: Shape) -> None:
        """Make a link different from now on; packets under way are not touched."""
        self.between(source, target).shape = shape

    def reopen(self, link: Link) -> None:
        """The way is open again, for one reason or another: what waits goes on its way, if nothing else stops it."""
        if not link.waiting or not link.passes():
            return
        waiting, link.waiting = link.waiting, []
        now, next_at = self._engine.now, {}
        for sent_at, flow, number, size, arrive, args in waiting:
            when = now + link.delay_s(now, size)
            if flow is None:
                self._engine.at(when, self._arrive_datagram, link, arrive, args)
                continue
            if id(flow) not in next_at:  # of each flow the oldest packet is the one that is sent again
                next_at[id(flow)] = _sent_again(sent_at, now) - now
            flow.last_at = max(flow.last_at, when + next_at[id(flow)])
            self._engine.at(flow.last_at, self._arrive, link, flow, number, size, arrive, args)

    def release(self, link: Link) -> None:
        """End a hold: everything arrives now, in order, as fast as the link is."""
        link.held = False
        if link.passes():
            waiting, link.waiting = link.waiting, []
            now = self._engine.now
            for _, flow, number, size, arrive, args in waiting:
                when = now + link.delay_s(now, size)
                if flow is None:
                    self._engine.at(when, self._arrive_datagram, link, arrive, args)
                else:
                    flow.last_at = max(flow.last_at, when)
                    self._engine.at(flow.last_at, self._arrive, link, flow, number, size, arrive, args)

    def reopen_to(self, target: Station) -> None:
        """A machine is on again: what was sent to it comes."""
        for link in self._all:
            if link.target is target:
                self.reopen(link)


def _sent_again(first_at: float, now: float) -> float:
    """When TCP, which sent something in vain at `first_at`, tries again after `now`."""
    pause_s = RETRANSMIT_FIRST_S
    when = first_at + pause_s
    while when <= now:
        pause_s = min(pause_s * 2, RETRANSMIT_MAX_S)
        when += pause_s
    return when
