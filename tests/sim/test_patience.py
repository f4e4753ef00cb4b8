"""How long a connection waits for a peer that does not answer."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.sim import World
from tests.sim.stages import CALM, dialled, listening, play

KEEPALIVE: dict[str, Any] = {"SO_KEEPALIVE": 1, "TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


async def serve() -> None:
    with listening(7) as listener:
        kept = []
        while True:
            kept.append(await asyncio.get_running_loop().sock_accept(listener))


def ending(what: Callable[[World, Any], None], send: bool = False, **options: int) -> Any:
    """What a client reads, and after how many seconds, when something is done to its peer."""

    async def scenario(world: World) -> tuple[Any, float]:
        world.host("s").start(serve)
        await world.sleep(0.1)
        client = await dialled("s", 7, **options)
        await world.sleep(0.01)  # the server has the end of the handshake too
        what(world, client)
        begun = world.now()
        if send:
            client.send(b"are you there?")
        try:
            async with asyncio.timeout(2000):
                return await asyncio.get_running_loop().sock_recv(client, 10), world.now() - begun
        except TimeoutError as error:
            return error.errno, world.now() - begun
        except OSError as error:
            return error.errno, world.now() - begun
        finally:
            client.close()

    return play(scenario, **CALM)


def off(world: World, _: Any) -> None:
    world.host("s").power_loss()


def cut(world: World, _: Any) -> None:
    world.partition("driver", "s")


def cut_back(world: World, _: Any) -> None:
    world.partition("s", "driver", one_way=True)


@pytest.mark.parametrize("what", [off, cut, cut_back])
def test_without_keepalive_silence_is_never_noticed(what: Any) -> None:
    assert ending(what) == (None, pytest.approx(2000, abs=1))


@pytest.mark.parametrize("what", [off, cut, cut_back])
def test_keepalive_notices_after_its_time(what: Any) -> None:
    assert ending(what, **KEEPALIVE) == (errno.ETIMEDOUT, pytest.approx(10 + 3 * 5, abs=0.1))


@pytest.mark.parametrize("what", [off, cut])
def test_a_user_timeout_ends_the_questions_earlier(what: Any) -> None:
    error, after_s = ending(what, **KEEPALIVE, TCP_USER_TIMEOUT=12_000)
    assert (error, after_s) == (errno.ETIMEDOUT, pytest.approx(15, abs=0.1))


@pytest.mark.parametrize("what", [off, cut, cut_back])
def test_data_that_is_not_acknowledged_ends_a_connection(what: Any) -> None:
    assert ending(what, send=True) == (errno.ETIMEDOUT, pytest.approx(924.6, abs=0.1))
    assert ending(what, send=True, TCP_USER_TIMEOUT=20_000) == (errno.ETIMEDOUT, pytest.approx(20, abs=0.1))


def test_keepalive_finds_a_machine_that_was_restarted() -> None:
    def restart(world: World, _: Any) -> None:
        world.host("s").power_loss()
        world.host("s").restart()

    assert ending(restart, **KEEPALIVE) == (errno.ECONNRESET, pytest.approx(10, abs=0.1))


def test_a_partition_that_ends_in_time_is_not_noticed() -> None:
    def short(world: World, _: Any) -> None:
        world.partition("driver", "s")
        asyncio.get_running_loop().call_later(20, world.repair, "driver", "s")

    assert ending(short, **KEEPALIVE) == (None, pytest.approx(2000, abs=1))
    assert ending(short, send=True, TCP_USER_TIMEOUT=30_000) == (None, pytest.approx(2000, abs=1))


def test_a_second_partition_is_counted_anew() -> None:
    def twice(world: World, _: Any) -> None:
        loop = asyncio.get_running_loop()
        world.partition("driver", "s")
        loop.call_later(20, world.repair, "driver", "s")
        loop.call_later(100, world.partition, "driver", "s")

    error, after_s = ending(twice, **KEEPALIVE)
    assert (error, after_s) == (errno.ETIMEDOUT, pytest.approx(115, abs=15))


def test_a_paused_machine_does_not_answer_either() -> None:
    def pause(world: World, _: Any) -> None:
        world.host("s").pause(1000)

    assert ending(pause, **KEEPALIVE) == (errno.ETIMEDOUT, pytest.approx(25, abs=0.1))
    assert ending(lambda world, _: world.host("s").pause(5), send=True) == (None, pytest.approx(2000, abs=1))


def test_who_accepted_asks_as_well() -> None:
    async def scenario(world: World) -> tuple[Any, float]:
        async def patient() -> tuple[Any, float]:
            import socket

            loop = asyncio.get_running_loop()
            with listening(7) as listener:
                for name, value in KEEPALIVE.items():
                    level = socket.SOL_SOCKET if name[1] == "O" else socket.IPPROTO_TCP
                    listener.setsockopt(level, getattr(socket, name), value)
                connection, _ = await loop.sock_accept(listener)
                begun = loop.time()
                try:
                    return await loop.sock_recv(connection, 10), loop.time() - begun
                except OSError as error:
                    return error.errno, loop.time() - begun
                finally:
                    connection.close()

        async def client() -> None:
            with await dialled("s", 7):
                await asyncio.sleep(1e5)

        server = world.host("s").start(patient)
        await world.sleep(0.1)
        world.host("c").start(client)
        await world.sleep(1)
        world.host("c").power_loss()
        found: tuple[Any, float] = await server
        return found

    error, after_s = play(scenario, **CALM)
    assert (error, after_s) == (errno.ETIMEDOUT, pytest.approx(25, abs=1.1))
