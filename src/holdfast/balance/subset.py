"""Which of many endpoints this client uses, when there are more than it should hold connections to.

Owns: the choice by rendezvous (gRPC A68, algorithms.md 2.11). Each endpoint is hashed with the client's own seed and the lowest hashes
stay. Nobody has to know the other clients; one endpoint more or less changes at most one place of the subset.

Why at all: in a full mesh each connection carries next to nothing, power of two choices sees only nodes at rest, and every heartbeat is
paid for by every pair.

What may never happen here: `hash()`, which would choose anew at each start; a seed that all clients share, which would send all of them
to the same few servers. With consistent hashing there is no subset: all clients must see the same nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from heapq import nsmallest

from ..errors import ConfigError
from .endpoint import Endpoint

SIZE = 20
"""Enough that a few dead ones are no loss and that clients spread evenly; few enough that each connection is used."""

ABOVE = 40
"""Twice the size: below that, holding all of them is cheap and spreads better."""

SEED_BYTES_MAX = 64


def subset(endpoints: Sequence[Endpoint], size: int = SIZE, above: int = ABOVE, *, seed: bytes) -> list[Endpoint]:
    """Return the endpoints that this client uses, in the order they came in: all when there are at most `above`, else `size` of them.

    Args:
        seed: what makes this client's choice its own, 1 to 64 bytes; drawn once and kept, or each new set would be chosen from scratch.
    Raises: ConfigError for a size below 1, one greater than `above`, and a seed of another length.
    """
    if size < 1:
        raise ConfigError(f"subset size={size!r}: expected at least 1 endpoint; to use all of them raise `above`")
    if above < size:
        raise ConfigError(f"subset above={above!r}: expected at least the size of the subset, {size}; fewer cannot be left over")
    if not 1 <= len(seed) <= SEED_BYTES_MAX:
        raise ConfigError(f"subset seed of {len(seed)} bytes: expected 1 to {SEED_BYTES_MAX}; draw 16 for each client and keep them")
    if len(endpoints) <= above:
        return list(endpoints)
    ranked = [(_rank(endpoint.key, seed), place) for place, endpoint in enumerate(endpoints)]
    return [endpoints[place] for place in sorted(place for _, place in nsmallest(size, ranked))]


def _rank(key: str, seed: bytes) -> bytes:
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16, key=seed).digest()
