"""Two traces that should be one: where they part.

Owns: finding the first event that differs, and saying it with what came before. A world that is not the same twice read something that the
seed does not decide (an address, a hash, the real clock), and the event where the traces part is the nearest to it that can be seen.

What may never happen here: comparing by anything but the text of events, which is what a digest is made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest
from typing import NamedTuple

CONTEXT_EVENTS = 4
NOTHING = "(nothing more)"


class Divergence(NamedTuple):
    """Where two traces part: at event number `at`, after `before`, `one` has the first trace's event and `other` the second's."""

    at: int
    before: tuple[str, ...]
    one: str
    other: str

    def __str__(self) -> str:
        lines = [f"the traces part at event {self.at}:", *(f"    {each}" for each in self.before)]
        return "\n".join([*lines, f"  1 {self.one}", f"  2 {self.other}"])


def first_divergence(one: Iterable[object], other: Iterable[object]) -> Divergence | None:
    """The first event that differs, or None when the traces are equal. One that ends early differs where it ends."""
    before: list[str] = []
    for at, (left, right) in enumerate(zip_longest(map(str, one), map(str, other), fillvalue=NOTHING)):
        if left != right:
            return Divergence(at, tuple(before), left, right)
        before = [*before[-CONTEXT_EVENTS + 1 :], left]
    return None
