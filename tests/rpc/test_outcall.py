"""A call while it is open: what stands in it when nobody has said anything."""

from __future__ import annotations

import asyncio
import math

from holdfast.rpc.outcall import Outcall, StillOpen


def test_a_call_that_says_nothing_waits_for_ever_and_alone() -> None:
    call = Outcall(method="shop.price", number=7)
    assert (call.expires_at, call.total_at, call.beside_at) == (math.inf, math.inf, math.inf)
    assert (call.future, call.buffer, call.on_trailers) == (None, None, None)
    assert call != Outcall(method="shop.price", number=7), "each call is itself only"


async def test_who_is_told_that_a_call_is_still_open_is_given_what_to_wait_for() -> None:
    again = asyncio.get_running_loop().create_future()
    assert StillOpen(again).future is again
