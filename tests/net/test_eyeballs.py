"""The race between the addresses of a name, on loopback: who wins, what is said of the others, and that no socket stays open."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.net.eyeballs import TARGETS_MAX, Race, interleaved
from holdfast.net.options import ConnectOptions
from holdfast.net.sockets import Socket, Target, unix_target
from tests.faults.helpers import cancel_everywhere
from tests.net.helpers import PATIENCE_S, open_sockets, turns_until

V4, V6 = socket.AF_INET, socket.AF_INET6
HOSTS = {V4: "127.0.0.1", V6: "::1"}
PATIENT = ConnectOptions(stagger_s=10)
HASTY = ConnectOptions(stagger_s=0.01)


@contextmanager
def listening(family: int = V4) -> Iterator[Target]:
    """Somebody who answers."""
    with closing(socket.socket(family)) as listener:
        listener.bind((HOSTS[family], 0))
        listener.listen()
        yield Target(family, (HOSTS[family], listener.getsockname()[1]))


@contextmanager
def refusing(family: int = V4) -> Iterator[Target]:
    """A port that is bound and not listened at: nobody else can get it meanwhile."""
    with closing(socket.socket(family)) as unused:
        unused.bind((HOSTS[family], 0))
        yield Target(family, (HOSTS[family], unused.getsockname()[1]))


@contextmanager
def silent(family: int = V4) -> Iterator[Target]:
    """An address where a connection neither succeeds nor fails: the backlog is full and nobody accepts."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.socket(family)))
        listener.bind((HOSTS[family], 0))
        listener.listen(0)
        for _ in range(3):
            filler = stack.enter_context(closing(socket.socket(family)))
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield Target(family, (HOSTS[family], listener.getsockname()[1]))


async def run(targets: list[Target], options: ConnectOptions) -> tuple[Race, Socket]:
    race = Race(asyncio.get_running_loop(), targets, options)
    async with asyncio.timeout(PATIENCE_S):
        return race, await race.run()


def peer_of(connected: Socket) -> Target:
    return Target(connected.family, connected.getpeername()[:2])


@pytest.mark.both_loops
@pytest.mark.parametrize(("first", "second"), [(V4, V6), (V6, V4), (V4, V4)])
async def test_the_first_that_answers_is_taken_and_nobody_else_is_asked(first: int, second: int) -> None:
    with listening(first) as near, silent(second) as far:
        before = open_sockets()
        race, connected = await run([near, far], HASTY)
        with closing(connected):
            assert peer_of(connected) == near
            assert open_sockets() == before + 1
        assert race.errors == []


@pytest.mark.both_loops
async def test_one_that_fails_is_followed_at_once() -> None:
    with refusing(V6) as near, listening(V4) as far:
        race, connected = await run([near, far], PATIENT)  # its ten seconds would be more than this test's patience
        with closing(connected):
            assert peer_of(connected) == far
        assert [(target, error.errno) for target, error in race.errors] == [(near, errno.ECONNREFUSED)]


@pytest.mark.both_loops
async def test_one_that_is_silent_is_joined_by_the_next_and_closed_when_that_one_wins() -> None:
    with silent(V6) as near, listening(V4) as far:
        before = open_sockets()
        race, connected = await run([near, far], HASTY)
        with closing(connected):
            assert peer_of(connected) == far
            assert open_sockets() == before + 1, "the loser is closed"
        assert race.errors == []


@pytest.mark.both_loops
async def test_a_late_answer_of_an_early_one_wins_if_it_is_the_first() -> None:
    with silent(V6) as near, refusing(V4) as far:
        options = ConnectOptions(stagger_s=0.01)
        race = Race(asyncio.get_running_loop(), [near, far], options)
        running = asyncio.get_running_loop().create_task(race.run())
        await turns_until(lambda: race.errors)  # the other one has come, and failed
        assert not running.done()
        (waiting,) = race._connecting
        race._won(waiting)  # a backlog with room again answers at the next SYN, a second later: too long to wait for here
        connected = await running
        assert connected is waiting
        connected.close()


@pytest.mark.both_loops
async def test_when_all_fail_each_of_them_is_told() -> None:
    with refusing(V6) as one, refusing(V4) as two:
        before = open_sockets()
        race = Race(asyncio.get_running_loop(), [one, two], PATIENT)
        with pytest.raises(ConnectionRefusedError):
            await race.run()
        assert [target for target, _ in race.errors] == [one, two]
        assert open_sockets() == before


@pytest.mark.both_loops
async def test_a_family_this_machine_has_not_is_an_error_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int = -1, *rest: int) -> socket.socket:
        if family == V6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest)

    with listening(V4) as far:
        monkeypatch.setattr(socket, "socket", without_ipv6)
        race, connected = await run([Target(V6, ("::1", 1)), far], PATIENT)
        connected.close()
        assert [error.errno for _, error in race.errors] == [errno.EAFNOSUPPORT]


@pytest.mark.both_loops
async def test_cancelled_anywhere_no_socket_stays_open() -> None:
    with silent(V6) as near, refusing(V6) as middle, listening(V4) as far:
        before = open_sockets()

        async def race() -> None:
            _, connected = await run([near, far, middle], HASTY)
            connected.close()

        async def nothing_is_left() -> None:
            await asyncio.sleep(0)
            assert open_sockets() == before

        assert await cancel_everywhere(race, nothing_is_left) >= 1


@pytest.mark.both_loops
async def test_a_full_unix_socket_is_asked_again(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    with closing(socket.socket(socket.AF_UNIX)) as listener, ExitStack() as stack:
        listener.bind(path)
        listener.listen(0)
        for _ in range(2):
            filler = stack.enter_context(closing(socket.socket(socket.AF_UNIX)))
            filler.setblocking(False)
            filler.connect_ex(path)
        race = Race(asyncio.get_running_loop(), [unix_target(path)], HASTY)
        running = asyncio.get_running_loop().create_task(race.run())
        await turns_until(lambda: race._timer is not None)
        assert not running.done()
        listener.accept()[0].close()
        async with asyncio.timeout(PATIENCE_S):
            connected = await running
        connected.close()
        assert race.errors == []


async def test_more_addresses_than_can_have_their_turn_are_left_out() -> None:
    with refusing() as refused:
        targets = [Target(V4, (f"127.0.0.{n}", refused.name[1])) for n in range(1, 200)]
        race = Race(asyncio.get_running_loop(), targets, PATIENT)
        with pytest.raises(OSError):
            await race.run()
        assert len(race.errors) == TARGETS_MAX


@given(st.lists(st.tuples(st.sampled_from([V4, V6]), st.integers(0, 20))))
def test_the_families_take_turns_and_keep_their_order(given_: list[tuple[int, int]]) -> None:
    targets = [Target(family, (HOSTS[family], port)) for family, port in given_]
    mixed = interleaved(targets)
    assert sorted(mixed) == sorted(set(targets))
    for family in (V4, V6):
        assert [each for each in mixed if each.family == family] == list(dict.fromkeys(t for t in targets if t.family == family))
    if targets:
        assert mixed[0] == targets[0]
    families = [each.family for each in mixed]
    shorter = min(families.count(V4), families.count(V6))
    assert all(families[n] != families[n + 1] for n in range(2 * shorter - 1))
