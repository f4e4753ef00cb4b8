"""Who comes in: accepted connections become links, or are turned away.

Owns: a connection from its accept until a link has it; how many there are; and the spare descriptor, given up for the moment it takes to
turn somebody away when there is no other (Twisted #5368). A peer that is turned away is told why where there are words for it, and gets
time to read them: its connection is closed like any other, while there are few of them.

What may never happen here: a connection that nobody closes, whatever is cancelled when; a connection that left and is still counted.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from ..facts import ConnectionRefused, Emit
from .address import Address, is_loopback
from .census import PER_PREFIX_MAX, Census
from .link import Link, ListenOptions, Receiver, WhenFull
from .listener import Taken
from .sockets import INHERITS, Socket, dismiss, reason_of, set_nodelay, set_options, source_network, spare_descriptor
from .tcp import LinkShared, StreamLink, printable

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Future[Any]]

OUT_OF_DESCRIPTORS = (errno.EMFILE, errno.ENFILE)
LEAVING_MAX = 16
"""Refused peers that may take their time to read why; the next ones are closed on at once."""

WAITS_MAX = 64
"""Turns of the loop that a newcomer waits for somebody who was cut to go: it takes one or two. More than the limit may also be here because
another listener with a limit of its own let them in, and those do not go."""


class Door:
    """The door of one listener.

    Args:
        everybody: counts the connections of all listeners; they share `room`, unless this one has a limit of its own.
        emit: gets a ConnectionRefused for each who is turned away; whoever wants fewer folds them (`refusals.py`).
    """

    def __init__(
        self,
        shared: LinkShared,
        spawn: Spawn,
        loop: asyncio.AbstractEventLoop,
        address: Address,
        make_receiver: Callable[[], Receiver],
        options: ListenOptions,
        when_full: WhenFull,
        *,
        everybody: Census,
        room: int,
        emit: Emit,
    ) -> None:
        self._shared = shared
        self._spawn = spawn
        self._loop = loop
        self._address = address
        self._make_receiver = make_receiver
        self._options = options
        self._when_full = when_full
        self._everybody = everybody
        self._census = Census()
        self._counted = self._census if options.connections_max is not None else everybody
        self.room = options.connections_max if options.connections_max is not None else room
        self._emit = emit
        self._leaving = 0
        self._adopting = 0
        self._waits = 0
        self._spare = spare_descriptor()

    # ------------------------------------------------------------------------------------------------------- for the acceptor

    def take(self, listening: Socket, local: str) -> Taken:
        """Accept one connection and let it in, or turn it away. Raises: OSError as accept(2) does."""
        make_room, over = self._when_full.make_room, self._counted.count - self.room
        if make_room is not None and (over > 0 or (over == 0 and self._adopting)) and self._waits < WAITS_MAX:
            self._waits += 1
            return "later"  # who was cut has not gone yet, or nobody can tell yet what the newest are worth
        self._waits = 0
        try:
            connection, name = listening.accept()
        except OSError as error:
            if error.errno in OUT_OF_DESCRIPTORS:
                return self._without_descriptor(listening, error)
            raise
        peer = printable(name) or str(self._address)
        network, most = self._network_of(name)
        if network is not None and self._census.of(network) >= most:
            self._turn_away(connection, peer, f"no room at {self._address}: {most} connections from one network are open, the limit")
            return "costly"
        taken: Taken = "taken"
        if over >= 0:
            if make_room is None or not make_room():
                self._turn_away(connection, peer, f"no room at {self._address}: {self.room} connections are open, the limit")
                return "costly"
            taken = "costly"
        self._let_in(connection, peer, local, network)
        return taken

    def _without_descriptor(self, listening: Socket, error: OSError) -> Taken:
        """There is no descriptor for a connection: cut one that is worth less, or give up the spare one to turn it away."""
        if self._when_full.make_room is not None and self._when_full.make_room():
            return "costly and last"  # what was cut gives its descriptor back when the loop turns
        if self._spare is None:
            self._spare = spare_descriptor()
            if self._spare is None:
                raise error
        os.close(self._spare)
        try:
            connection, name = listening.accept()  # raises, if nobody waits at all: Linux looks for a descriptor first
            reason = f"no room at {self._address}: {reason_of(error)}; raise `ulimit -n`"
            dismiss(connection, self._words(reason))
        finally:
            self._spare = spare_descriptor()
        self._emit(ConnectionRefused(printable(name) or str(self._address), reason))
        return "costly"

    def trouble(self, error: OSError) -> None:
        """Accepting failed for a reason that may pass."""
        advice = "raise `ulimit -n`" if error.errno == errno.EMFILE else "it is tried again"
        self._emit(ConnectionRefused("unknown", f"{self._address} cannot accept: {reason_of(error)}; {advice}"))

    def close(self) -> None:
        """Nobody comes any more."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None

    # --------------------------------------------------------------------------------------------------------------- letting in

    def _network_of(self, name: Any) -> tuple[Hashable, int]:
        """Which network a peer counts to, and how many may come from there; None for no limit."""
        most = self._options.connections_per_prefix_max
        if not isinstance(name, tuple):
            return (None, 0) if most is None else ("unix", most)
        if most is None:
            return (None, 0) if is_loopback(name[0]) else (source_network(name), PER_PREFIX_MAX)
        return source_network(name), most

    def _let_in(self, connection: Socket, peer: str, local: str, network: Hashable) -> None:
        self._census.enter(network)
        self._everybody.enter(None)

        def leave() -> None:
            self._census.leave(network)
            self._everybody.leave(None)

        link = AcceptedLink(self._shared, self._make_receiver, local=local, peer=peer, leave=leave)
        self._adopt_soon(link, connection)

    def _adopt_soon(self, link: AcceptedLink, connection: Socket) -> None:
        connection.setblocking(False)
        self._adopting += 1

        def adopted(done: asyncio.Future[Any]) -> None:
            self._adopting -= 1
            # A task that is cancelled before its first step never runs its coroutine, and nobody would own the connection.
            if done.cancelled():
                link.connection_lost(None)
                if connection.fileno() >= 0:
                    connection.close()

        self._spawn(self._adopt(link, connection)).add_done_callback(adopted)

    async def _adopt(self, link: AcceptedLink, connection: Socket) -> None:
        try:
            if not INHERITS:
                set_options(connection, self._options)
            await self._loop.connect_accepted_socket(lambda: link, connection)
            set_nodelay(connection, self._options.nodelay)
            if link.error is not None:
                self._emit(ConnectionRefused(link.peer, f"its receiver failed at once: {link.error!r}"))
        except OSError as error:
            link.give_up()
            connection.close()
            self._emit(ConnectionRefused(link.peer, f"lost while it was accepted: {reason_of(error)}"))
        except BaseException:
            link.give_up()
            connection.close()
            raise

    # ------------------------------------------------------------------------------------------------------------- turning away

    def _turn_away(self, connection: Socket, peer: str, reason: str) -> None:
        self._emit(ConnectionRefused(peer, reason))
        words = self._words(reason)
        if not words or self._leaving >= LEAVING_MAX:
            dismiss(connection, words)
            return
        self._leaving += 1
        link = AcceptedLink(self._shared, lambda: _SentAway(words), peer=peer, leave=self._left)
        self._adopt_soon(link, connection)

    def _left(self) -> None:
        self._leaving -= 1

    def _words(self, reason: str) -> bytes:
        refusal = self._when_full.refusal
        return b"" if refusal is None else refusal(f"{reason}; try again later")


class AcceptedLink(StreamLink):
    """A link that says when it has gone, exactly once, even if it was never made."""

    __slots__ = ("_leave",)

    def __init__(
        self,
        shared: LinkShared,
        make_receiver: Callable[[], Receiver],
        *,
        leave: Callable[[], None],
        local: str = "",
        peer: str = "",
    ) -> None:
        super().__init__(shared, make_receiver, local=local, peer=peer)
        self._leave: Callable[[], None] | None = leave

    def connection_lost(self, exc: Exception | None) -> None:
        """As in StreamLink."""
        leave, self._leave = self._leave, None
        try:
            super().connection_lost(exc)
        finally:
            if leave is not None:
                leave()


class _SentAway:
    """The receiver of a peer that is turned away: it is told why, and heard no more."""

    def __init__(self, words: bytes) -> None:
        self._words = words

    def link_made(self, link: Link) -> None:
        link.write(self._words)
        link.close()

    def bytes_received(self, data: memoryview | bytes) -> int:
        return len(data)

    def eof_received(self) -> None:
        return

    def link_lost(self, error: Exception | None) -> None:
        return

    def pause_writing(self) -> None:
        return

    def resume_writing(self) -> None:
        return
