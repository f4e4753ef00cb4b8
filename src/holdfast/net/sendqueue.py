"""Datagrams that wait for a full socket, within bounds.

Owns: their order, how much may wait, and when a protocol is to write less. Pure: who sends them is not its business.
What may never happen here: more than the bounds; a mark that is told twice.
"""

from __future__ import annotations

from collections import deque
from typing import Any

PAUSE_PART = 2
RESUME_PART = 8
"""Writing should pause when more than a half of either bound waits, and resume at an eighth of both."""

Name = tuple[Any, ...]


class SendQueue:
    """A queue of datagrams and where to; None is the peer of a connected socket.

    Args:
        max_bytes, max_datagrams: what it holds. Both count: a datagram may be empty.

    Attributes:
        waiting_bytes: the payload that waits.
    """

    __slots__ = ("_entries", "_max_bytes", "_max_datagrams", "_paused", "waiting_bytes")

    def __init__(self, max_bytes: int, max_datagrams: int) -> None:
        self._entries: deque[tuple[bytes, Name | None]] = deque()
        self._max_bytes = max_bytes
        self._max_datagrams = max_datagrams
        self._paused = False
        self.waiting_bytes = 0

    def __len__(self) -> int:
        """How many wait."""
        return len(self._entries)

    def push(self, data: bytes, target: Name | None) -> bool:
        """Put one behind the others; False when there is no room for it."""
        if len(self._entries) >= self._max_datagrams or self.waiting_bytes + len(data) > self._max_bytes:
            return False
        self._entries.append((data, target))
        self.waiting_bytes += len(data)
        return True

    def first(self) -> tuple[bytes, Name | None]:
        """The one that waits longest. There must be one."""
        return self._entries[0]

    def pop(self) -> None:
        """Take the first one out."""
        data, _ = self._entries.popleft()
        self.waiting_bytes -= len(data)

    def clear(self) -> int:
        """Take all of them out; how many there were."""
        count = len(self._entries)
        self._entries.clear()
        self.waiting_bytes = 0
        return count

    def must_pause(self) -> bool:
        """Whether the high mark was passed since the last time it was told."""
        if self._paused or not self._exceeds(PAUSE_PART):
            return False
        self._paused = True
        return True

    def may_resume(self) -> bool:
        """Whether the low mark was reached since the high one was told."""
        if not self._paused or self._exceeds(RESUME_PART):
            return False
        self._paused = False
        return True

    def _exceeds(self, part: int) -> bool:
        return len(self._entries) * part > self._max_datagrams or self.waiting_bytes * part > self._max_bytes
