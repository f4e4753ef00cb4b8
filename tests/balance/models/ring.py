"""Who a key belongs to, by looking at every point of the circle from every place: no order is kept, nothing is searched.

The positions are the definition, so they are computed here from the bytes, not taken from the ring under test.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import cache

CIRCLE = 2**30
POINTS = 4


@cache
def words(text: str, person: bytes, count: int) -> list[int]:
    digest = hashlib.blake2b(text.encode(), digest_size=4 * count, person=person).digest()
    return [int.from_bytes(digest[4 * n : 4 * n + 4], "little") // 4 for n in range(count)]


def points_of(nodes: Sequence[tuple[str, float]]) -> dict[int, str]:
    """Every point with the node that has it; of two on one point the one whose key is less."""
    octave = 2.0 ** math.floor(math.log2(max(weight for _, weight in nodes)))
    points: dict[int, str] = {}
    for key, weight in sorted(nodes, reverse=True):
        count = max(1, round(weight * POINTS / octave))
        for point in words(key, b"node", 8)[:count]:
            points[point] = key
    return points


def preference(key: str, nodes: Sequence[tuple[str, float]]) -> list[str]:
    """All nodes in the order the key prefers them."""
    points = points_of(nodes)
    looks = []
    for place in words(key, b"key", 16)[:15]:
        distance, point = min(((point - place) % CIRCLE, point) for point in points)
        looks.append((distance, point < place, point))
    nearest = min(looks)[2]
    by_look = [points[look[2]] for look in sorted(looks)]
    around = [points[point] for _, point in sorted(((point - nearest) % CIRCLE, point) for point in points)]
    return list(dict.fromkeys(by_look + around))


def share_of_chance(key: str) -> float:
    return words(key, b"key", 16)[15] / CIRCLE
