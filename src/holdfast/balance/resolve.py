"""Where the nodes come from: a fixed list, a file that is watched, a name that is looked up again and again.

Owns: when to look, and that what was found last stays in use while nothing better is found. A source tells
whole sets, never differences, so nothing is lost when one of them is missed (algorithms.md 2.33). It looks again by its own timer, and
when it is poked: by a connection that failed, by a server that goes away, by the user. However many poke, it looks no more often than its
config allows, or every failure of a node would fall upon the name server too.

What may never happen here: an empty set handed on; a good set given up because of a bad answer; a lookup of our own (`lookup` is given).
"""

from __future__ import annotations

import asyncio
import errno
import math
import os
import stat
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from typing import Protocol

import msgspec

from ..clock import Rng
from ..control.backoff import equal_jitter
from ..errors import ConfigError
from ..facts import Emit, ResolveFailed
from .endpoint import Endpoint
from .listing import FILE_MAX_BYTES, parse_nodes

EARLY_S = 0.005
"""Timers may come this much too early; it is not worth another turn."""

Update = Callable[[Sequence[Endpoint]], None]


class ResolveConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How often a source of nodes is asked. Seconds.

    Attributes:
        refresh_s: how often a name is looked up. 30 is what most records may be kept, and what a new node waits at most for its first call.
        jitter: the share by which that differs, up or down, or all clients that were started together would ask together for ever.
        poke_min_s: after a lookup that somebody poked for, how long pokes wait for the next one; doubled while pokes go on, up to
            `poke_max_s`. A first poke is heeded at once. 5 is what DNS keeps of a bad answer at least; 30 is the timer's own pace.
        failed_base_s, failed_cap_s: the back-off while lookups fail: equal jitter.
        file_poll_s: how often a file's date, size and inode are looked at, and how often pokes may have it read again. That is one call
            of the system, so a second is cheap, and nobody waits longer for a change.
    Raises: ConfigError naming the field that makes no sense.
    """

    refresh_s: float = 30.0
    jitter: float = 0.1
    poke_min_s: float = 5.0
    poke_max_s: float = 30.0
    failed_base_s: float = 1.0
    failed_cap_s: float = 30.0
    file_poll_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("refresh_s", "poke_min_s", "poke_max_s", "failed_base_s", "failed_cap_s", "file_poll_s"):
            if not 0.01 <= getattr(self, name) <= 86_400:
                raise ConfigError(f"{name}={getattr(self, name)!r}: expected 0.01 to 86400 seconds")
        if not 0 <= self.jitter <= 0.5:
            raise ConfigError(f"jitter={self.jitter!r}: expected a share from 0 to 0.5")
        for least, most in (("poke_min_s", "poke_max_s"), ("failed_base_s", "failed_cap_s")):
            if getattr(self, least) > getattr(self, most):
                raise ConfigError(f"{least}={getattr(self, least)!r}: expected no more than {most}={getattr(self, most)!r}")


DEFAULT_CONFIG = ResolveConfig()


class Resolver(Protocol):
    """A source of nodes.

    Attributes:
        source: what it is, for people: an address, a path.
        static: whether its set never changes.
        last_error: why nothing was found when it last looked; empty when something was.
        next_at: when it looks next, in the loop's time; inf before it runs, and for a source that never does.
    """

    source: str
    static: bool
    last_error: str

    @property
    def next_at(self) -> float: ...

    def initial(self) -> Sequence[Endpoint]:
        """Return what is known at once, without waiting; empty when nothing is."""

    def poke(self) -> None:
        """Look again soon: something is not as it was. Cheap, and heeded as often as the config allows."""

    async def run(self, update: Update) -> None:
        """Tell `update` the whole set, each time it is learned; never an empty one. Ends only for a static source.

        Raises: what `update` raises. Cancel: loses nothing; run it once only.
        """


class StaticResolver:
    """A list that was written down.

    Raises: ConfigError for an empty one.
    """

    static = True
    last_error = ""
    next_at = math.inf

    def __init__(self, endpoints: Sequence[Endpoint]) -> None:
        if not endpoints:
            raise ConfigError("no address was given; expected at least one")
        self._endpoints = tuple(endpoints)
        self.source = ",".join(each.key for each in self._endpoints[:3]) + (",…" if len(self._endpoints) > 3 else "")

    def initial(self) -> Sequence[Endpoint]:
        """Return the list."""
        return self._endpoints

    def poke(self) -> None:
        """Nothing to look at."""

    async def run(self, update: Update) -> None:
        """Tell the list, and end. Cancel: loses nothing."""
        update(self._endpoints)


# ---------------------------------------------------------------------------------------------------------------- when to look


class Rhythm:
    """When to look again: at a time, or sooner when poked, but not too often for that.

    Attributes:
        next_at: until when `pause` waits.
    """

    __slots__ = ("_event", "_gap_s", "_poke_max_s", "_poke_min_s", "_poked", "_pokes_at", "next_at")

    def __init__(self, poke_min_s: float, poke_max_s: float) -> None:
        self._poke_min_s = self._gap_s = poke_min_s
        self._poke_max_s = poke_max_s
        self._event = asyncio.Event()
        self._poked = False
        self._pokes_at = -math.inf  # when pokes are heeded again
        self.next_at = math.inf

    def poke(self) -> None:
        """End the pause, now or as soon as pokes are heeded again. One that comes between two pauses is not forgotten."""
        if not self._poked:
            self._poked = True
            self._event.set()

    def calm(self) -> None:
        """Pokes were right, there was news: the next ones are heeded as soon as ever."""
        self._gap_s = self._poke_min_s

    async def pause(self, until_at: float) -> bool:
        """Wait for `until_at` or a poke, and say whether it was poked. Cancel: loses nothing."""
        loop = asyncio.get_running_loop()
        while True:
            at = self.next_at = min(until_at, self._pokes_at) if self._poked else until_at
            now = loop.time()
            if now >= at - EARLY_S:
                break
            self._event.clear()
            timer = loop.call_at(at, self._event.set)
            try:
                await self._event.wait()
            finally:
                timer.cancel()
        poked, self._poked = self._poked, False
        if poked:
            self._pokes_at = now + self._gap_s
            self._gap_s = min(2 * self._gap_s, self._poke_max_s)
        else:
            self._gap_s = self._poke_min_s
        return poked


# ---------------------------------------------------------------------------------------------------------------- a name


class DnsResolver:
    """A name, whose nodes are what it stands for at the moment.

    Args:
        source: the address as it was given, `tls://shop.internal:7000`.
        lookup: returns the keys of the endpoints the name stands for, in any order. It has to end by itself, in a few seconds.
        labels: what each of them is labelled with.
        rng: for the jitter.
    """

    static = False

    def __init__(
        self,
        source: str,
        lookup: Callable[[], Awaitable[Sequence[str]]],
        *,
        rng: Rng,
        emit: Emit,
        labels: Mapping[str, str] | None = None,
        config: ResolveConfig = DEFAULT_CONFIG,
    ) -> None:
        self.source = source
        self.last_error = ""
        self._lookup = lookup
        self._rng = rng
        self._emit = emit
        self._labels = dict(labels or {})
        self._config = config
        self._rhythm = Rhythm(config.poke_min_s, config.poke_max_s)
        self._failures = 0
        self._known: list[str] = []

    @property
    def next_at(self) -> float:
        """When the name is looked up next, in the loop's time."""
        return self._rhythm.next_at

    def initial(self) -> Sequence[Endpoint]:
        """Nothing is known of a name before it was looked up."""
        return ()

    def poke(self) -> None:
        """Look it up again soon."""
        self._rhythm.poke()

    async def run(self, update: Update) -> None:
        """Look the name up for ever, and tell each answer that has something in it. Cancel: a lookup under way is given up."""
        loop = asyncio.get_running_loop()
        while True:
            wait_s = await self._look(update)
            await self._rhythm.pause(loop.time() + wait_s)

    async def _look(self, update: Update) -> float:
        config = self._config
        try:
            keys = await self._lookup()
            reason = "" if keys else "the answer has no address in it"
        except Exception as error:  # a lookup that is broken in its own way must not end the looking
            keys, reason = (), str(error) or type(error).__name__
        self.last_error = reason
        if reason:
            wait_s = equal_jitter(self._rng, self._failures, base_s=config.failed_base_s, cap_s=config.failed_cap_s)
            self._failures += 1
            self._emit(ResolveFailed(self.source, reason, wait_s))
            return wait_s
        self._failures = 0
        known = sorted(dict.fromkeys(keys))
        if known != self._known:
            self._known = known
            self._rhythm.calm()
        update([Endpoint(key, labels=self._labels) for key in known])
        return config.refresh_s * self._rng.uniform(1 - config.jitter, 1 + config.jitter)


# ---------------------------------------------------------------------------------------------------------------- a file


class FileResolver:
    """A file of nodes, which somebody else writes and we watch. `parse_nodes` says what may stand in it.

    It is read here on the loop and not in a thread: a megabyte at most of a local file, which is in the system's cache as it was written
    just now, takes well under a millisecond, and that only after a change. Do not put it on a disk across the network. Whoever writes it
    should write another file and rename that: of a file that is written in place we may see half, until we look again a second later.

    Args:
        address: turns the text of an address into the key of a node; raises ValueError or ConfigError for one that is none.
        stamp: what differs when the file is another one. read: its content. Both raise OSError. In a simulation, not the system's.
    """

    static = False

    def __init__(
        self,
        path: str,
        *,
        emit: Emit,
        address: Callable[[str], str] = str,
        stamp: Callable[[], Hashable] | None = None,
        read: Callable[[], bytes] | None = None,
        config: ResolveConfig = DEFAULT_CONFIG,
    ) -> None:
        self.source = path
        self.last_error = ""
        self._emit = emit
        self._address = address
        self._stamp = stamp or (lambda: _stamp_of(path))
        self._read = read or (lambda: _content_of(path))
        self._poll_s = config.file_poll_s
        self._rhythm = Rhythm(config.file_poll_s, config.file_poll_s)
        self._seen: Hashable = None

    @property
    def next_at(self) -> float:
        """When the file is looked at next, in the loop's time."""
        return self._rhythm.next_at

    def initial(self) -> Sequence[Endpoint]:
        """Return what stands in the file; nothing when it cannot be read: `run` will say why."""
        try:
            return parse_nodes(self._read(), self._address)
        except (OSError, ValueError):
            return ()

    def poke(self) -> None:
        """Read it again soon, even if it does not look changed."""
        self._rhythm.poke()

    async def run(self, update: Update) -> None:
        """Watch the file for ever, and tell what is in it when that changed. Cancel: loses nothing."""
        loop = asyncio.get_running_loop()
        poked = True
        while True:
            self._look(update, anyway=poked)
            poked = await self._rhythm.pause(loop.time() + self._poll_s)

    def _look(self, update: Update, *, anyway: bool) -> None:
        try:
            stamp = self._stamp()  # before reading: a change that comes while we read gives another one
            if stamp == self._seen and not anyway:
                return
            self._seen = stamp
            endpoints = parse_nodes(self._read(), self._address)
        except OSError as error:
            self._seen = None
            self._failed(f"cannot be read: {error.strerror or error}")
        except ValueError as error:
            self._failed(str(error))
        else:
            self.last_error = ""
            update(endpoints)

    def _failed(self, reason: str) -> None:
        """Tell a reason once, not each second for as long as the file is as it is."""
        if reason != self.last_error:
            self.last_error = reason
            self._emit(ResolveFailed(self.source, reason, self._poll_s))


def _stamp_of(path: str) -> Hashable:
    found = os.stat(path)
    return found.st_mtime_ns, found.st_size, found.st_ino


def _content_of(path: str) -> bytes:
    with open(path, "rb", opener=_open_at_once) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "expected a plain file")  # to read a pipe may take for ever, and the loop with it
        return file.read(FILE_MAX_BYTES + 1)


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # or a pipe that nobody writes to would never be opened
