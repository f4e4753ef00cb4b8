"""What becomes of a stream: its node, the throttle and the budget hear of it exactly once, and not before it is known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

import holdfast
from holdfast.errors import DeadlineExceeded, OutcomeUnknown, Overloaded
from holdfast.facts import CallHeldBack
from holdfast.policy.throttle import ThrottleConfig
from tests.calling.town import Town, run_exactly, town

AB = ("memory://a", "memory://b")


async def _read_all(here: Town) -> None:
    assert [item async for item in here.client.stream("shop.items", n=3, gap_s=0.1, returns=int)] == [0, 1, 2]


async def _leave_early(here: Town) -> None:
    async with here.client.stream("shop.items", n=30, gap_s=0.1, returns=int) as stream:
        await stream.__anext__()


async def _leave_before_the_first(here: Town) -> None:
    here.how[AB[0]] = "slow"
    async with here.client.stream("shop.items", n=30, gap_s=0.1):
        await asyncio.sleep(0.1)


async def _fails_at_once(here: Town) -> None:
    here.how[AB[0]] = "busy"
    with pytest.raises(Overloaded):
        await here.client.stream("shop.items", n=3, gap_s=0.1).__anext__()


async def _is_lost(here: Town) -> None:
    stream = here.client.stream("shop.items", n=3, gap_s=1.0, returns=int)
    await stream.__anext__()
    here.lose(AB[0])
    with pytest.raises(OutcomeUnknown):
        await stream.__anext__()


async def _idles(here: Town) -> None:
    stream = here.client.stream("shop.items", n=3, gap_s=5.0, idle=0.2)
    await stream.__anext__()
    with pytest.raises(DeadlineExceeded):
        await stream.__anext__()


async def _is_late(here: Town) -> None:
    here.how[AB[0]] = "slow"
    with pytest.raises(DeadlineExceeded):
        await here.client.stream("shop.items", n=3, gap_s=0.1, deadline=0.2).__anext__()


async def _reader_is_cancelled(here: Town) -> None:
    async def read() -> None:
        async with here.client.stream("shop.items", n=30, gap_s=1.0) as stream:
            async for _ in stream:
                pass

    task = asyncio.get_running_loop().create_task(read())
    await here.until(here.now() + 0.5)
    task.cancel()
    await asyncio.wait([task])


async def _upload(here: Town) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        yield 2

    assert await here.client.call("shop.total", numbers(), returns=int) == 3


async def _upload_that_fails(here: Town) -> None:
    async def numbers() -> AsyncIterator[int]:
        yield 1
        raise KeyError("theirs")

    with pytest.raises(KeyError):
        await here.client.call("shop.total", numbers(), returns=int)


async def _lost_before_the_first(here: Town) -> None:
    here.how[AB[0]] = "slow"
    stream = here.client.stream("shop.items", n=3, gap_s=0.1, returns=int)
    async with stream:
        await asyncio.sleep(0.1)
        here.lose(AB[0])
        with pytest.raises(OutcomeUnknown):
            await stream.__anext__()


async def _has_no_items(here: Town) -> None:
    assert [item async for item in here.client.stream("shop.items", n=0, gap_s=0.1, returns=int)] == []


ENDS: list[tuple[Callable[[Town], Awaitable[None]], int, int, str]] = [
    (_read_all, 0, 0, "accepted"),
    (_leave_early, 0, 1, "accepted"),
    (_leave_before_the_first, 0, 1, "not accepted"),
    (_fails_at_once, 1, 0, "not accepted"),
    (_is_lost, 1, 0, "accepted"),
    (_lost_before_the_first, 1, 0, "nothing"),
    (_has_no_items, 0, 0, "accepted"),
    (_idles, 1, 0, "accepted"),
    (_is_late, 1, 0, "not accepted"),
    (_reader_is_cancelled, 0, 1, "accepted"),
    (_upload, 0, 0, "accepted"),
    (_upload_that_fails, 0, 1, "nothing"),
]
"""How a stream ends: failures of its node, attempts given up there, and what the throttle counts."""


@pytest.mark.parametrize(("way", "failures", "given_up", "counted"), ENDS, ids=[end[0].__name__[1:] for end in ENDS])
def test_whoever_listens_hears_once_however_it_ends(
    way: Callable[[Town], Awaitable[None]], failures: int, given_up: int, counted: str
) -> None:
    async def main() -> None:
        async with town(AB[:1], attempts=1) as here:
            node, throttle = here.node(AB[0]), here.core.throttle
            await way(here)
            assert (node.pending, node.attempts, node.failures, node.given_up) == (0, 1, failures, given_up)
            assert (throttle.accepts, throttle._refused_now) == {"accepted": (1, 0), "not accepted": (0, 1), "nothing": (0, 0)}[counted]
            await here.until(here.now() + 5.0)
            here.nothing_is_held()

    run_exactly(main)


def test_servers_that_refuse_all_streams_are_sent_less_of_them() -> None:
    """A stream is open as soon as it was sent; counted then, each one that is refused would be a success."""

    async def main() -> None:
        config = holdfast.ClientConfig(throttle=ThrottleConfig(calls_min_per_s=0.0))
        async with town(AB, config=config, attempts=1) as here:
            here.how.update(dict.fromkeys(AB, "busy"))
            for _ in range(100):
                with pytest.raises(Overloaded):
                    await here.client.stream("shop.items", n=3, gap_s=0.1, returns=int).__anext__()
            held = sum(isinstance(fact, CallHeldBack) and fact.by == "throttle" for _, fact in here.facts)
            assert held > 50
            assert len(here.log) == 100 - held
            assert not here.core.budget.lit, "nobody has shown a sign of life"

    run_exactly(main)
