"""Lookups in their own threads: bounded, shared, and of no consequence once nobody waits. The system's resolver is the test's."""

from __future__ import annotations

import asyncio
import queue
import socket
import threading
from collections.abc import Callable

import pytest

from holdfast.net.resolver import Resolver
from holdfast.net.sockets import Target
from tests.faults.helpers import cancel_everywhere
from tests.net.helpers import PATIENCE_S, turns_until

FOUND = [Target(socket.AF_INET, ("192.0.2.1", 7))]


class System:
    """A resolver that answers when it is told to, name by name."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.threads: list[threading.Thread] = []
        self._answers: dict[str, queue.SimpleQueue[list[Target] | Exception]] = {}

    def look(self, host: str, port: int, passive: bool) -> list[Target]:
        self.threads.append(threading.current_thread())
        self.asked.append(host)
        answer = self._of(host).get(timeout=PATIENCE_S)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, host: str, what: list[Target] | Exception | None = None) -> None:
        self._of(host).put(FOUND if what is None else what)

    def _of(self, host: str) -> queue.SimpleQueue[list[Target] | Exception]:
        return self._answers.setdefault(host, queue.SimpleQueue())


def ask(resolver: Resolver, host: str, timeout_s: float = PATIENCE_S) -> asyncio.Task[list[Target]]:
    return asyncio.get_running_loop().create_task(resolver.resolve(host, 7, timeout_s=timeout_s))


@pytest.mark.both_loops
async def test_a_literal_needs_no_thread() -> None:
    system = System()
    resolver = Resolver(system.look)
    assert await resolver.resolve("127.0.0.1", 7) == [Target(socket.AF_INET, ("127.0.0.1", 7))]
    (six,) = await resolver.resolve("::1", 7, passive=True)
    assert (six.family, six.name[:2]) == (socket.AF_INET6, ("::1", 7))
    assert system.asked == []


@pytest.mark.both_loops
async def test_a_name_is_looked_up_in_a_thread_that_ends_with_it() -> None:
    system = System()
    resolver = Resolver(system.look)
    system.answer("a.test")
    assert await ask(resolver, "a.test") == FOUND
    (thread,) = system.threads
    assert thread is not threading.main_thread()
    assert thread.daemon, "a lookup that hangs must not keep the process from ending"
    await turns_until(lambda: not thread.is_alive())
    assert (resolver._running, resolver._lookups) == (0, {})


@pytest.mark.both_loops
async def test_so_many_run_at_once_and_the_rest_wait_their_turn() -> None:
    system = System()
    resolver = Resolver(system.look, threads_max=2)
    tasks = [ask(resolver, name) for name in ("a", "b", "c", "d")]
    await turns_until(lambda: len(system.asked) == 2)
    system.answer("b")
    assert await tasks[1] == FOUND
    await turns_until(lambda: len(system.asked) == 3)
    assert system.asked[2] == "c"
    for name in ("a", "c", "d"):
        system.answer(name)
    assert await asyncio.gather(*tasks) == [FOUND] * 4


@pytest.mark.both_loops
async def test_who_asks_for_the_same_name_waits_for_the_same_lookup() -> None:
    system = System()
    resolver = Resolver(system.look)
    tasks = [ask(resolver, "a") for _ in range(10)]
    await turns_until(lambda: system.asked)
    tasks[0].cancel()
    system.answer("a")
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert results[1:] == [FOUND] * 9
    assert system.asked == ["a"]


@pytest.mark.both_loops
async def test_a_name_that_hangs_takes_one_thread_and_no_other_name_waits_for_it() -> None:
    system = System()
    resolver = Resolver(system.look, threads_max=2)
    for _ in range(5):
        with pytest.raises(TimeoutError, match=r"the name 'stuck' was not resolved within 0\.01 s"):
            await resolver.resolve("stuck", 7, timeout_s=0.01)
    system.answer("quick")
    assert await ask(resolver, "quick") == FOUND
    assert sorted(system.asked) == ["quick", "stuck"]
    system.answer("stuck")  # nobody waits any more: it is dropped
    await turns_until(lambda: not resolver._running)
    assert resolver._lookups == {}


async def test_a_queue_that_is_full_refuses() -> None:
    system = System()
    resolver = Resolver(system.look, threads_max=1, waiting_max=2)
    tasks = [ask(resolver, name) for name in ("a", "b", "c")]
    await turns_until(lambda: system.asked)
    with pytest.raises(OSError, match="1 lookups run and 2 wait already; 'd' was not looked up"):
        await resolver.resolve("d", 7)
    tasks[1].cancel()
    await asyncio.gather(tasks[1], return_exceptions=True)
    tasks.append(ask(resolver, "d"))
    for name in ("a", "c", "d"):
        system.answer(name)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert system.asked == ["a", "c", "d"], "nobody wanted b any more"


FAILURES: list[tuple[Exception, type[Exception], str]] = [
    (socket.gaierror(-2, "Name or service not known"), socket.gaierror, "Name or service not known"),
    (UnicodeError("label too long"), OSError, "the name 'a' cannot be resolved: label too long"),
]


@pytest.mark.parametrize(("error", "kind", "said"), FAILURES, ids=lambda each: str(each)[:20])
async def test_a_failure_is_told_to_each_who_waits(error: Exception, kind: type[Exception], said: str) -> None:
    system = System()
    resolver = Resolver(system.look)
    tasks = [ask(resolver, "a") for _ in range(2)]
    system.answer("a", error)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(each) for each in results] == [kind] * 2
    assert said in str(results[0])
    assert results[0] is not results[1]


async def test_a_name_that_stands_for_nothing_is_an_error() -> None:
    system = System()
    system.answer("a", [])
    with pytest.raises(OSError, match="the name 'a' stands for no IPv4 or IPv6 address"):
        await ask(Resolver(system.look), "a")


async def test_a_system_without_threads_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Resolver(System().look)
    monkeypatch.setattr(threading.Thread, "start", no_more)
    with pytest.raises(OSError, match="can't start new thread"):
        await resolver.resolve("a", 7)
    assert resolver._running == 0


@pytest.mark.both_loops
async def test_cancelled_anywhere_nothing_is_kept() -> None:
    system = System()
    resolver = Resolver(system.look, threads_max=1)
    names = iter(range(1000))

    def one() -> asyncio.Task[list[Target]] | object:
        name = f"n{next(names)}"
        system.answer(name)
        return resolver.resolve(name, 7)

    async def nothing_is_kept() -> None:
        await turns_until(lambda: not resolver._running)
        assert resolver._lookups == {}
        assert not resolver._waiting

    assert await cancel_everywhere(one, nothing_is_kept) >= 1  # type: ignore[arg-type]


def test_an_answer_after_the_loop_is_closed_is_dropped() -> None:
    system = System()
    resolver = Resolver(system.look)

    async def give_up() -> None:
        task = ask(resolver, "late", 0.01)
        with pytest.raises(TimeoutError):
            await task

    asyncio.run(give_up())
    system.answer("late")
    for thread in system.threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


async def test_the_systems_own_resolver_knows_localhost() -> None:
    look: Callable[[str, int, bool], list[Target]] = Resolver()._look
    assert "127.0.0.1" in {target.name[0] for target in await Resolver(look).resolve("localhost", 7)}
