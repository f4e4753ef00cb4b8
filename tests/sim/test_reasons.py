"""What a world that hangs says of itself: errors nobody handled, names nobody has, listeners nobody reaches, and where tasks wait."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from holdfast.sim.reasons import pending, raised_at, where
from holdfast.sim.world import World, run_world


def reasons_of(*programs: object, seconds: float = 5.0) -> list[str]:
    """What is said of a world in which host `a`, `b`, … run these, after so many seconds."""
    said: list[str] = []

    async def scenario(world: World) -> None:
        for name, program in zip("abc", programs, strict=False):
            world.host(name).start(program).looked_at = False  # type: ignore[arg-type]
        await world.sleep(seconds)
        said.extend(world._went_wrong())

    run_world(scenario, seed=1)
    return said


async def waits() -> None:
    await asyncio.Event().wait()


async def talks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readline()
    writer.close()
    reader.no_such_thing  # type: ignore[attr-defined] # noqa: B018


async def serve() -> None:
    async with await asyncio.start_server(talks, "0.0.0.0", 7000) as server:
        await server.serve_forever()


async def serve_at_home() -> None:
    async with await asyncio.start_server(talks, "127.0.0.1", 7000) as server:
        await server.serve_forever()


async def ask(host: str = "a") -> None:
    for _ in range(3):
        try:
            _, writer = await asyncio.open_connection(host, 7000)
            writer.write(b"x\n")
            writer.close()
        except OSError:
            pass
        await asyncio.sleep(1)


async def ask_nobody() -> None:
    await ask("nobody")


def test_a_world_that_is_well_has_nothing_to_say() -> None:
    assert reasons_of(waits, waits) == []


def test_a_handler_that_raises_is_told_once_with_its_line_and_how_often() -> None:
    (said,) = reasons_of(serve, ask)
    assert re.fullmatch(r"a: AttributeError: 'StreamReader' .* at test_reasons.py:\d+ in talks \(3 times\)", said)


def test_a_program_that_ended_with_an_error_comes_first() -> None:
    async def dies() -> None:
        raise KeyError("port")

    said = reasons_of(serve, ask, dies)
    assert re.fullmatch(r"c: program 'dies' ended with KeyError: 'port' at test_reasons.py:\d+ in dies", said[0])
    assert len(said) == 2


def test_a_name_nobody_has_is_told_and_one_that_was_made_later_is_not() -> None:
    assert reasons_of(waits, ask_nobody) == ["no host is called 'nobody'; there are a, b"]

    async def scenario(world: World) -> None:
        world.host("b").start(ask)
        await world.sleep(0.5)
        assert list(world.names.missed) == ["a"]
        world.host("a").start(serve)
        await world.sleep(0.2)
        assert world._went_wrong() == []

    run = run_world(scenario, seed=1)
    assert run.failure is None, run.details


def test_a_listener_no_other_host_reaches_is_told() -> None:
    assert reasons_of(serve_at_home, ask) == ["a listens on 127.0.0.1:7000, where no other host reaches it; listen on 0.0.0.0"]


def test_of_many_reasons_the_first_are_told() -> None:
    async def ask_many() -> None:
        for number in range(5):
            await ask(f"nobody-{number}")

    said = reasons_of(ask_many, seconds=60)
    assert len(said) == 4
    assert said[-1] == "and 2 more"


def test_a_task_waits_at_the_innermost_line_of_somebodys_own() -> None:
    async def items() -> AsyncIterator[int]:
        yield 1
        await asyncio.sleep(60)

    async def inner() -> None:
        async for _ in items():
            await asyncio.sleep(60)

    async def outer() -> None:
        await inner()

    async def scenario(world: World) -> None:
        assert pending([]) == "pending: no task at all"
        process = world.host("a").start(outer)
        await world.sleep(1)
        assert re.fullmatch(r"pending: a: outer at test_reasons.py:\d+ in inner", pending([process]))

    run = run_world(scenario, seed=1)
    assert run.failure is None, run.details


def test_the_line_of_an_error_is_the_innermost_of_somebodys_own() -> None:
    with pytest.raises(ValueError, match="nothing") as raised:
        asyncio.run(asyncio.wait_for(serve_nothing(), 1))
    assert re.fullmatch(r"test_reasons.py:\d+ in serve_nothing", raised_at(raised.value))
    assert raised_at(None) == ""
    assert where("/a/b.py", 3, "c") == "b.py:3 in c"


async def serve_nothing() -> None:
    raise ValueError("nothing")
