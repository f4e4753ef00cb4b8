"""The receiving half of a connection's credit: what the peer may still send, and what we owe it back.

Owns the connection's receive window and the budget for messages being put together.

Credit goes back in portions of half a window, so that a busy connection is not full of CREDIT frames. But when the peer could not send
the largest whole item with what it has left, everything owed goes at once: streams nobody reads may hold most of a window, and what is
owed must then not lie here while other streams starve. `credit + owed + what calls hold unused == window`, always.
"""

from __future__ import annotations

from . import frames
from .flow import ByteBudget
from .outbox import Outbox
from .settings import Settings


class Inbox:
    """The connection's receive window.

    Attributes:
        credit: what the peer may still send, in bytes.
        owed: used, and not yet given back.
        low: below this much credit nothing is kept back.
    """

    __slots__ = ("_outbox", "budget", "credit", "low", "owed", "window")

    def __init__(self, settings: Settings, budget: ByteBudget, outbox: Outbox) -> None:
        self.budget = budget
        self._outbox = outbox
        self.owed = 0
        self.credit = 0
        self.low = 0
        self.window = settings.connection_window_bytes

    def open(self, settings: Settings) -> None:
        """The handshake is done: the peer may send as much as we said."""
        self.window = self.credit = settings.connection_window_bytes
        self.low = min(settings.frame_max_bytes + frames.ITEM_OVERHEAD_BYTES, self.window // 2)

    def spend(self, count: int) -> bool:
        """The peer sent `count` bytes that cost credit; False when it had none left."""
        if count > self.credit:
            return False
        self.credit -= count
        if self.credit < self.low and self.owed:
            self._give_back()
        return True

    def used(self, count: int) -> None:
        """`count` of them are used, and may come again."""
        self.owed += count
        if (self.owed * 2 >= self.window or self.credit < self.low) and self.owed:
            self._give_back()

    def _give_back(self) -> None:
        owed, self.owed = self.owed, 0
        self.credit += owed
        self._outbox.ready.append(frames.pack_frame(frames.CREDIT, 0, 0, frames.CREDIT_PAYLOAD.pack(owed)))
