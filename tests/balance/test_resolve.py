"""Sources of nodes: when they look, what they make of bad answers, and how often they let themselves be poked. In simulated time."""

from __future__ import annotations

import asyncio
import math
import os
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from holdfast.balance.endpoint import Endpoint
from holdfast.balance.resolve import DnsResolver, FileResolver, ResolveConfig, Resolver, StaticResolver
from holdfast.errors import ConfigError
from holdfast.facts import Fact, ResolveFailed
from holdfast.sim.cancelling import Cut, cancel_everywhere
from holdfast.sim.world import World, run_world

STILL = ResolveConfig(jitter=0.0)


def in_world(scenario: Callable[[World], Awaitable[None]]) -> None:
    run = run_world(scenario, seed=1)
    assert run.failure is None, run.story()


def about(times: list[float]) -> Any:
    """These times, but for what a processor in the simulated world takes."""
    return pytest.approx(times, abs=0.3)


class NameServer:
    """Answers with whatever `answer` is, an error too, and notes when it was asked."""

    def __init__(self, world: World, *keys: str) -> None:
        self.world = world
        self.answer: Sequence[str] | Exception = keys
        self.asked: list[float] = []
        self.takes_s = 0.0

    async def lookup(self) -> Sequence[str]:
        self.asked.append(self.world.now())
        answer = self.answer
        await asyncio.sleep(self.takes_s)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Watched:
    """A resolver that runs, what it told, and the facts."""

    def __init__(self, world: World, make: Callable[[Callable[[Fact], None]], Resolver]) -> None:
        self.told: list[tuple[int, str]] = []
        self.facts: list[Fact] = []
        self.resolver = make(self.facts.append)

        def update(endpoints: Sequence[Endpoint]) -> None:
            self.told.append((round(world.now()), " ".join(each.key for each in endpoints)))

        self._task = asyncio.create_task(self.resolver.run(update))

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        assert self._task.cancelled()


def dns(world: World, server: NameServer, config: ResolveConfig = STILL) -> Watched:
    return Watched(world, lambda emit: DnsResolver("tcp://shop:7000", server.lookup, rng=random.Random(1), emit=emit, config=config))


# ------------------------------------------------------------------------------------------------------------ a list


async def test_a_list_is_known_at_once_told_once_and_never_changes() -> None:
    nodes = [Endpoint("a"), Endpoint("b")]
    resolver: Resolver = StaticResolver(nodes)
    told: list[Sequence[Endpoint]] = []
    resolver.poke()
    await resolver.run(told.append)
    assert (resolver.static, list(resolver.initial()), [list(each) for each in told]) == (True, nodes, [nodes])
    assert (resolver.source, resolver.last_error, resolver.next_at) == ("a,b", "", math.inf)


def test_an_empty_list_is_refused() -> None:
    with pytest.raises(ConfigError, match="no address was given; expected at least one"):
        StaticResolver([])


# ------------------------------------------------------------------------------------------------------------ a name


def test_a_name_is_looked_up_at_once_and_then_in_its_own_time() -> None:
    async def scenario(world: World) -> None:
        server = NameServer(world, "b", "a", "b")
        watched = dns(world, server)
        assert (watched.resolver.initial(), watched.resolver.static) == ((), False)
        await world.sleep(70)
        assert server.asked == about([0.0, 30.0, 60.0])
        assert watched.resolver.next_at == pytest.approx(world.now() + 20, abs=0.2)
        server.answer = ("c",)
        await world.sleep(30)
        await watched.stop()
        assert watched.told == [(0, "a b"), (30, "a b"), (60, "a b"), (90, "c")]
        assert watched.facts == []

    in_world(scenario)


def test_clients_that_begin_together_do_not_go_on_together() -> None:
    async def scenario(world: World) -> None:
        server = NameServer(world, "a")
        watched = dns(world, server, ResolveConfig(jitter=0.1))
        await world.sleep(600)
        await watched.stop()
        gaps = [round(later - sooner, 2) for sooner, later in pairwise(server.asked)]
        assert all(26.9 <= gap <= 33.1 for gap in gaps)
        assert len(set(gaps)) > 10

    in_world(scenario)


def test_its_nodes_are_labelled() -> None:
    async def scenario(world: World) -> None:
        server = NameServer(world, "a")
        told: list[Sequence[Endpoint]] = []
        resolver = DnsResolver("x", server.lookup, rng=random.Random(1), emit=print, labels={"name": "shop"}, config=STILL)
        task = asyncio.create_task(resolver.run(told.append))
        await world.sleep(1)
        task.cancel()
        assert told == [[Endpoint("a", labels={"name": "shop"})]]

    in_world(scenario)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((), "the answer has no address in it"),
        (OSError("no such name"), "no such name"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_bad_answer_changes_nothing_and_is_asked_again_with_back_off(bad: Any, reason: str) -> None:
    async def scenario(world: World) -> None:
        server = NameServer(world, "a")
        watched = dns(world, server)
        await world.sleep(29)
        server.answer = bad
        await world.sleep(200)
        assert watched.told == [(0, "a")]
        assert watched.resolver.last_error == reason
        facts = [fact for fact in watched.facts if isinstance(fact, ResolveFailed)]
        assert {(fact.source, fact.reason) for fact in facts} == {("tcp://shop:7000", reason)}
        waits = [fact.retry_in_s for fact in facts]
        assert all(min(2**n, 30) / 2 <= wait <= min(2**n, 30) for n, wait in enumerate(waits))
        gaps = [later - sooner for sooner, later in pairwise(server.asked[1:])]
        assert gaps == pytest.approx(waits[: len(gaps)], abs=0.3)
        server.answer = ("b",)
        await world.sleep(60)
        assert (watched.told[-1][1], watched.resolver.last_error, len(watched.facts)) == ("b", "", len(facts))
        server.answer = bad
        watched.resolver.poke()
        await world.sleep(0.2)
        await watched.stop()
        assert [fact.retry_in_s <= 1 for fact in watched.facts[len(facts) :] if isinstance(fact, ResolveFailed)] == [True]

    in_world(scenario)


def test_a_first_poke_is_heeded_at_once_and_a_storm_of_them_is_not_one_of_lookups() -> None:
    async def scenario(world: World) -> None:
        server = NameServer(world, "a")
        watched = dns(world, server)
        await world.sleep(2)
        for _ in range(1000):
            for _ in range(50):
                watched.resolver.poke()
            await world.sleep(0.1)
        await watched.stop()
        assert server.asked == about([0.0, 2.0, 7.0, 17.0, 37.0, 67.0, 97.0])

    in_world(scenario)


def test_while_pokes_bring_news_they_are_heeded_as_soon_as_ever() -> None:
    async def scenario(world: World) -> None:
        server = NameServer(world, "a")
        watched = dns(world, server)
        await world.sleep(2)
        for number in range(18):
            server.answer = (f"n{number}",)
            watched.resolver.poke()
            await world.sleep(1)
        await watched.stop()
        assert server.asked == about([0.0, 2.0, 7.0, 12.0, 17.0])

    in_world(scenario)


def test_after_a_quiet_time_a_poke_is_a_first_one_again() -> None:
    async def scenario(world: World) -> None:
        server = NameServer(world, "a")
        watched = dns(world, server)
        for at in (1, 6, 20, 100, 105):
            await world.sleep(at - world.now())
            watched.resolver.poke()
        await world.sleep(1)
        await watched.stop()
        assert server.asked == about([0.0, 1.0, 6.0, 20.0, 50.0, 80.0, 100.0, 105.0])

    in_world(scenario)


def test_a_poke_while_it_is_being_looked_up_is_not_forgotten() -> None:
    async def scenario(world: World) -> None:
        server = NameServer(world, "a")
        server.takes_s = 1.0
        watched = dns(world, server)
        await world.sleep(0.5)
        watched.resolver.poke()
        await world.sleep(10)
        await watched.stop()
        assert server.asked == about([0.0, 1.0])

    in_world(scenario)


def test_a_poke_ends_the_back_off() -> None:
    async def scenario(world: World) -> None:
        server = NameServer(world)
        watched = dns(world, server, ResolveConfig(failed_base_s=30.0))
        await world.sleep(1)
        watched.resolver.poke()
        await world.sleep(1)
        await watched.stop()
        assert server.asked == about([0.0, 1.0])

    in_world(scenario)


def test_a_cancel_at_every_wait_leaves_no_timer_and_no_lookup() -> None:
    async def scenario(world: World, cut: Cut[None]) -> None:
        server = NameServer(world, "a")
        server.takes_s = 0.5
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []
        call_at = loop.call_at
        loop.call_at = lambda *given, **named: timers.append(call_at(*given, **named)) or timers[-1]  # type: ignore[method-assign, func-returns-value]
        told: list[object] = []

        def update(endpoints: Sequence[Endpoint]) -> None:
            told.append(endpoints)
            if len(told) == 3:
                raise LookupError("enough")

        resolver = DnsResolver("x", server.lookup, rng=random.Random(1), emit=print, config=STILL)
        loop.call_at(loop.time() + 3, resolver.poke)
        try:
            await cut(resolver.run(update))
        except LookupError:
            assert not cut.happened
        asked = len(server.asked)
        resolver.poke()
        assert [timer for timer in timers if not timer.cancelled() and timer.when() > loop.time() + 3] == []
        await asyncio.sleep(100)
        assert len(server.asked) == asked

    assert cancel_everywhere(scenario) >= 5


# ------------------------------------------------------------------------------------------------------------ a file


class File:
    """A file that is only thought of."""

    def __init__(self, content: bytes | None) -> None:
        self.reads = 0
        self.write(content)

    def write(self, content: bytes | None) -> None:
        self.content = content
        self.written = object()

    def stamp(self) -> object:
        if self.content is None:
            raise FileNotFoundError(2, "No such file or directory")
        return self.written

    def read(self) -> bytes:
        self.reads += 1
        if self.content is None:
            raise FileNotFoundError(2, "No such file or directory")
        return self.content


def watch(world: World, file: File) -> Watched:
    return Watched(world, lambda emit: FileResolver("nodes.txt", emit=emit, stamp=file.stamp, read=file.read))


def test_a_file_is_read_when_it_changes_and_only_then() -> None:
    async def scenario(world: World) -> None:
        file = File(b"a:1\nb:1")
        watched = watch(world, file)
        assert [each.key for each in watched.resolver.initial()] == ["a:1", "b:1"]
        await world.sleep(10.5)
        assert (watched.told, file.reads) == ([(0, "a:1 b:1")], 2)
        file.write(b"c:1")
        await world.sleep(10)
        await watched.stop()
        assert (watched.told[1:], watched.facts, file.reads) == ([(11, "c:1")], [], 3)

    in_world(scenario)


def test_a_bad_file_changes_nothing_and_is_told_once() -> None:
    async def scenario(world: World) -> None:
        file = File(b"a:1")
        watched = watch(world, file)
        await world.sleep(0.5)
        for content in (b"a:1\nb:1 heavy", None, b"# nobody"):
            file.write(content)
            await world.sleep(20)
        assert watched.told == [(0, "a:1")]
        reasons = [
            "line 2: expected name=value after the address, such as weight=2 or zone=a, got 'heavy'",
            "cannot be read: No such file or directory",
            "it names no node; expected at least one address",
        ]
        assert watched.facts == [ResolveFailed("nodes.txt", reason, 1.0) for reason in reasons]
        assert (watched.resolver.last_error, watched.resolver.initial()) == (reasons[-1], ())
        file.write(b"b:1")
        await world.sleep(1)
        await watched.stop()
        assert (watched.told[-1], watched.resolver.last_error) == ((61, "b:1"), "")

    in_world(scenario)


def test_a_file_that_is_gone_for_a_moment_is_read_again_though_it_looks_the_same() -> None:
    async def scenario(world: World) -> None:
        file = File(b"a:1")
        watched = watch(world, file)
        await world.sleep(0.5)
        stamp, file.content = file.written, None
        await world.sleep(1)
        file.content, file.written = b"b:1", stamp
        await world.sleep(1)
        await watched.stop()
        assert [keys for _, keys in watched.told] == ["a:1", "b:1"]

    in_world(scenario)


def test_a_poked_file_is_read_although_it_looks_unchanged_and_not_more_than_once_a_second() -> None:
    async def scenario(world: World) -> None:
        file = File(b"a:1")
        watched = watch(world, file)
        await world.sleep(0.5)
        file.content = b"b:1"
        for _ in range(38):
            watched.resolver.poke()
            await world.sleep(0.1)
        await watched.stop()
        assert len(watched.told) == 5
        assert {keys for _, keys in watched.told[1:]} == {"b:1"}

    in_world(scenario)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with a name here")
async def test_a_pipe_in_the_place_of_the_file_does_not_stop_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    os.mkfifo(path)
    facts: list[Fact] = []
    resolver = FileResolver(str(path), emit=facts.append)
    assert resolver.initial() == ()
    task = asyncio.ensure_future(resolver.run(lambda _: None))
    await asyncio.sleep(0)
    writing = os.open(path, os.O_RDWR | os.O_NONBLOCK)  # now somebody has it open and writes nothing
    try:
        assert resolver.initial() == ()
    finally:
        os.close(writing)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert facts == [ResolveFailed(str(path), "cannot be read: expected a plain file", 1.0)]


async def test_a_real_file(tmp_path: Path) -> None:
    path = tmp_path / "nodes"
    told: list[Sequence[Endpoint]] = []
    facts: list[Fact] = []
    path.write_text("a:1")

    async def one_look(resolver: FileResolver) -> None:
        task = asyncio.ensure_future(resolver.run(told.append))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    resolver = FileResolver(str(path), emit=facts.append, address=lambda text: f"tcp://{text}")
    assert resolver.initial() == [Endpoint("tcp://a:1")]
    await one_look(resolver)
    path.rename(tmp_path / "elsewhere")
    await one_look(resolver)
    assert told == [[Endpoint("tcp://a:1")]]
    assert facts == [ResolveFailed(str(path), "cannot be read: No such file or directory", 1.0)]
    (tmp_path / "new").write_text("b:1")
    (tmp_path / "new").rename(path)
    await one_look(resolver)
    assert told[1:] == [[Endpoint("tcp://b:1")]]


# ------------------------------------------------------------------------------------------------------------ the rest


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("refresh_s", 0, "expected 0.01 to 86400 seconds"),
        ("refresh_s", math.nan, "expected 0.01 to 86400 seconds"),
        ("file_poll_s", math.inf, "expected 0.01 to 86400 seconds"),
        ("jitter", 0.6, "expected a share from 0 to 0.5"),
        ("poke_min_s", 31, "expected no more than poke_max_s=30.0"),
        ("failed_base_s", 31, "expected no more than failed_cap_s=30.0"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}={value!r}: {expected}"):
        ResolveConfig(**{field: value})
