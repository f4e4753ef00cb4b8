"""The service that the tests of `holdfast bench` put load on."""

from __future__ import annotations

import time

from demo_app import svc

__all__ = ("svc",)

_seen: list[int] = []


@svc.method
def stall(n: int, at: int) -> int:
    """Stand still with the whole loop at call number `at`."""
    if n == at:
        time.sleep(0.3)
    return n


@svc.method
async def remember(n: int) -> None:
    _seen.append(n)


@svc.method
async def seen() -> list[int]:
    return _seen


@svc.method
async def forget() -> None:
    _seen.clear()
