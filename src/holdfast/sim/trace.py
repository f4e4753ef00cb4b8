"""The trace of a world: everything that happened, in order, as small tuples; and its digest.

Owns: the events and how they become one number. Who records an event appends it to `events` (the hot paths do so directly):
`(virtual time in seconds, kind, host, detail)`, where a detail is a string, a number, None or a tuple of these. Sizes and order of packets,
never their bytes: the bytes of TLS are not the same twice.

What may never happen here: the address of an object, the hash of a string, a real time, or what else is not the same in every process.
"""

from __future__ import annotations

import hashlib
import marshal
from typing import Any

Event = tuple[float, str, str, Any]

_CHUNK = 16_384
_MARSHAL = 2
"""The last format of marshal in which what is written does not depend on who else refers to an object."""


class Trace:
    """What happened, in order.

    Args:
        keep_max: how many events are kept at least, the newest; None for all. The digest is always of all of them.

    Attributes:
        events: the events that are kept.
        dropped: how many older ones are not.
    """

    def __init__(self, keep_max: int | None = None) -> None:
        self.events: list[Event] = []
        self.dropped = 0
        self._keep_max = keep_max
        self._hash = hashlib.blake2b(digest_size=16)
        self._hashed = 0

    def add(self, at_s: float, kind: str, host: str, detail: Any = None) -> None:
        """Record an event."""
        self.events.append((at_s, kind, host, detail))

    def trim(self) -> None:
        """Forget the oldest events, if only so many are kept."""
        if self._keep_max is not None and len(self.events) > self._keep_max + _CHUNK:
            self._fold()
            gone = min(len(self.events) - self._keep_max, self._hashed)
            del self.events[:gone]
            self._hashed -= gone
            self.dropped += gone

    def digest(self) -> str:
        """All events so far as 32 hexadecimal digits. Equal digests: the same events at the same times, in the same order."""
        self._fold()
        rest = self._hash.copy()
        rest.update(marshal.dumps(self.events[self._hashed :], _MARSHAL))
        return rest.hexdigest()

    def __len__(self) -> int:
        return self.dropped + len(self.events)

    def _fold(self) -> None:
        """Hash what makes full chunks, so that it does not matter who asks for a digest when."""
        while len(self.events) - self._hashed >= _CHUNK:
            self._hash.update(marshal.dumps(self.events[self._hashed : self._hashed + _CHUNK], _MARSHAL))
            self._hashed += _CHUNK
