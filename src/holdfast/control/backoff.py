"""How long to wait before trying again: jittered exponential back-off.

Pure: the dice come as an argument. The cap is applied *before* the jitter, or every client would end up waiting exactly the cap, in
lock-step (reference: algorithms.md 2.5, "clamp before jitter").
"""

from __future__ import annotations

from ..clock import Rng

EXPONENT_MAX = 32


def full_jitter(rng: Rng, attempt: int, *, base_s: float, cap_s: float) -> float:
    """Return U(0, min(cap, base * 2^attempt)) seconds; `attempt` is 0 for the first retry. For calls: spreads the most."""
    return rng.uniform(0.0, min(cap_s, base_s * 2.0 ** min(attempt, EXPONENT_MAX)))


def equal_jitter(rng: Rng, attempt: int, *, base_s: float, cap_s: float) -> float:
    """Return e/2 + U(0, e/2) with e = min(cap, base * 2^attempt) seconds. For reconnects: never at once, never all together."""
    exponential = min(cap_s, base_s * 2.0 ** min(attempt, EXPONENT_MAX))
    return exponential / 2 + rng.uniform(0.0, exponential / 2)
