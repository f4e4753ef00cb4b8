"""A handler that calls a second service that calls a third: the third knows the first caller's deadline, and a cancel goes all the way."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import holdfast
from holdfast import Context, errors
from holdfast.sim import World
from tests.sim.spine.service import TRAVELS_S
from tests.sim.stages import play

from .town import CALM, PORT, here

PATIENT_S = 60.0
"""What each handler would give a call by itself."""

front, middle, back = holdfast.Service("front"), holdfast.Service("middle"), holdfast.Service("back")


class Trace:
    """What happened where, and when."""

    world: Any = None
    clients: dict[str, holdfast.Client]
    left: dict[str, float | None]
    ended: dict[str, tuple[str, float]]


async def hop(ctx: Context, onward: str, nap_s: float) -> str:
    """Note what is left of the deadline, then call on, or do the work."""
    host, world = here(Trace.world), Trace.world
    Trace.left[host] = ctx.remaining()
    how = "done"
    try:
        if onward:
            answer: str = await Trace.clients[host].call(onward, nap_s=nap_s, returns=str)
        else:
            await asyncio.sleep(nap_s)
            answer = "from the back"
        return answer
    except asyncio.CancelledError:
        how = "cancelled"
        raise
    except errors.HoldfastError as error:
        how = type(error).__name__
        raise
    finally:
        Trace.ended[host] = (how, world.now())


@front.method(idempotent=True, name="go")
async def front_go(ctx: Context, nap_s: float) -> str:
    return await hop(ctx, "middle.go", nap_s)


@middle.method(idempotent=True, name="go")
async def middle_go(ctx: Context, nap_s: float) -> str:
    return await hop(ctx, "back.go", nap_s)


@back.method(idempotent=True, name="go")
async def back_go(ctx: Context, nap_s: float) -> str:
    return await hop(ctx, "", nap_s)


async def node(svc: holdfast.Service, onward: str) -> None:
    """A service that may call another, which stands on two hosts."""
    async with holdfast.serve(svc, bind=f"tcp://0.0.0.0:{PORT}", insecure=True):
        if not onward:
            await asyncio.Event().wait()
        url = ",".join(f"tcp://{name}:{PORT}" for name in onward.split(","))
        config = holdfast.ClientConfig(deadline_s=PATIENT_S)
        async with holdfast.connect(url, insecure=True, config=config, seed=2) as client:
            Trace.clients[here(Trace.world)] = client
            await asyncio.Event().wait()


def three_services(nap_s: float, deadline_s: float, *, cancel_s: float | None = None, attempts: int = 3) -> Any:
    """Call the first of three; return what came of it, and when that was."""
    Trace.clients, Trace.left, Trace.ended = {}, {}, {}

    async def scenario(world: World) -> Any:
        Trace.world = world
        for name, svc, onward in (
            ("back-a", back, ""),
            ("back-b", back, ""),
            ("middle-a", middle, "back-a,back-b"),
            ("middle-b", middle, "back-a,back-b"),
            ("front", front, "middle-a,middle-b"),
        ):
            world.host(name).start(partial(node, svc, onward), name=name)

        async def main() -> Any:
            async with holdfast.connect(f"tcp://front:{PORT}", insecure=True, seed=1, attempts=attempts) as client:
                await client.ready()
                await asyncio.sleep(1.0)
                calling = asyncio.get_running_loop().create_task(client.call("front.go", nap_s=nap_s, returns=str, deadline=deadline_s))
                began = world.now()
                if cancel_s is not None:
                    await asyncio.sleep(cancel_s)
                    calling.cancel()
                await asyncio.wait([calling])
                ended = world.now() - began
                await asyncio.sleep(1.0)
                return ("cancelled" if calling.cancelled() else calling.exception() or calling.result()), began, ended

        return await world.host("ada").start(main)

    return play(scenario, **CALM)


def the(name: str, of: dict[str, Any]) -> Any:
    """What was noted on the one host of that service that was called."""
    found = [value for host, value in of.items() if host.startswith(name)]
    assert len(found) == 1, f"{name} was called on {len(found)} of its hosts: {of}"
    return found[0]


def test_the_third_service_knows_the_deadline_of_the_first_caller() -> None:
    answer, _, _ = three_services(0.01, 5.0, attempts=1)
    assert answer == "from the back"
    left = [the(name, Trace.left) for name in ("front", "middle", "back")]
    assert left[2] <= left[1] <= left[0], left
    assert 4.9 < left[2] <= 5.0 + 3 * TRAVELS_S, "and none gives the next one its own sixty seconds"


def test_a_deadline_ends_all_three_and_not_later_than_it_should() -> None:
    error, began, took = three_services(30.0, 0.9, attempts=1)
    assert isinstance(error, errors.DeadlineExceeded)
    assert took <= 0.9 + 0.010
    for host, (how, at) in Trace.ended.items():
        assert how in ("cancelled", "DeadlineExceeded"), host
        assert at - began <= 0.9 + 0.010, host


def test_a_cancel_crosses_both_hops() -> None:
    how, began, _ = three_services(30.0, 20.0, cancel_s=0.5, attempts=1)
    assert how == "cancelled"
    assert {host.split("-")[0]: how for host, (how, _) in Trace.ended.items()} == dict.fromkeys(("front", "middle", "back"), "cancelled")
    assert all(at - began < 0.52 for _, at in Trace.ended.values()), "within milliseconds, not when somebody looks next"
