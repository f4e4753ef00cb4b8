"""Decisions out of bytes: what a fuzzed run does next is part of its input, so that a finding repeats and a mutation changes what is done.

What may never happen here: chance of any other kind.
"""

from __future__ import annotations


class Script:
    """Gives the bytes of `data` one after the other, then bytes made from how many it gave: a run never lacks a decision."""

    __slots__ = ("_at", "_data", "_state")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._state = len(data) * 40_503 + 1

    @property
    def over(self) -> bool:
        """Whether what comes now was not in the input."""
        return self._at >= len(self._data)

    def byte(self) -> int:
        at = self._at
        if at < len(self._data):
            self._at = at + 1
            return self._data[at]
        self._state = (self._state * 25_173 + 13_849) & 0xFFFF
        return self._state >> 8

    def rest(self) -> bytes:
        """All that has not been given."""
        found = self._data[self._at :]
        self._at = len(self._data)
        return found
