"""The client's side of a measurement: closed loops that ask, compare and count.

Owns the window: warm-up, then a span in which calls, latencies, and everybody's processor time are taken. Arguments differ from call to
call. What may never happen here: a reply that is counted and was not compared.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

from bench.processes import WrongReply, busy_s, cpu_s, spin_ms

TEXT = "x" * 60
BODY_BYTES = 64 * 1024
BODIES = [number.to_bytes(2, "big") * (BODY_BYTES // 2) for number in range(1, 33)]
SAMPLED = 15
"""Where calls are quick and several in flight, every sixteenth is timed: a mask of its number."""
QUICK_PER_S = 50_000

WARM_UP_PART = 3
"""The warm-up is so much shorter than the window."""
SLICE_S = 0.1
"""Sides that take turns within a window change so often: a machine is slow for seconds at a time."""

Figures = dict[str, float | None]
Work = Callable[[], Awaitable[None]]
"""A closed loop, to be run until its window's `stop_at`."""


class Reply(Protocol):
    """What an echo gives back."""

    a: int
    s: str


def compare(reply: Any, number: int, text: str) -> None:
    """Raises: WrongReply."""
    if reply.a != number or reply.s != text:
        raise WrongReply(f"asked for ({number}, {text!r}), got ({reply.a}, {reply.s!r})")


class Window:
    """The span that counts: a slice or several, each from `open` to `shut`, after a warm-up."""

    def __init__(self, seconds: float, server_pids: list[int]) -> None:
        self.seconds = seconds
        self.server_pids = server_pids
        self.calls = 0
        self.latencies: list[float] = []
        self.mask = 0
        self.spin_ms = 0.0
        self.stop_at = 0.0
        self._took = self._own_s = self._server_s = self._busy_s = 0.0

    def warm_up(self) -> None:
        """Begin with what does not count."""
        self.stop_at = time.perf_counter() + self.seconds / WARM_UP_PART

    def forget(self, in_flight: int = 1) -> None:
        """Forget the warm-up. What is timed depends on how quick it was: every call of slow ones, and of one in flight."""
        gc.collect()
        self.mask = SAMPLED if in_flight > 1 and self.calls > QUICK_PER_S * self.seconds / WARM_UP_PART else 0
        self.spin_ms = spin_ms()
        self.calls, self.latencies = 0, []

    def open(self, seconds: float) -> None:
        """Begin a slice of so many seconds."""
        self._before = busy_s() or 0.0, cpu_s(self.server_pids), time.process_time()
        self._started = time.perf_counter()
        self.stop_at = self._started + seconds

    def shut(self) -> None:
        """End a slice."""
        self._took += time.perf_counter() - self._started
        busy, server, own = self._before
        self._own_s += time.process_time() - own
        self._server_s += cpu_s(self.server_pids) - server
        self._busy_s += (busy_s() or 0.0) - busy

    def figures(self) -> Figures:
        """Return what its slices held."""
        took, own, server = self._took, self._own_s, self._server_s
        foreign = None if busy_s() is None else max(0.0, self._busy_s - own - server) / took
        calls = max(self.calls, 1)
        latencies = sorted(self.latencies)
        return {
            "calls": self.calls,
            "seconds": took,
            "rate": self.calls / took,
            "p50_us": latencies[len(latencies) // 2] * 1e6 if latencies else None,
            "p99_us": latencies[len(latencies) * 99 // 100] * 1e6 if latencies else None,
            "client_cpu_us": own / calls * 1e6,
            "server_cpu_us": server / calls * 1e6,
            "foreign_cores": foreign,
            "spin_ms": self.spin_ms,
        }


async def by_turns(sides: Sequence[tuple[Window, Work]], in_flight: int) -> list[Figures]:
    """Run each closed loop for the warm-up, then for what counts: one alone at a stretch, several in short slices that alternate."""
    for window, work in sides:
        window.warm_up()
        await work()
    for window, _ in sides:
        window.forget(in_flight)
    seconds = sides[0][0].seconds
    slices = max(1, round(seconds / SLICE_S)) if len(sides) > 1 else 1
    for number in range(slices):
        for window, work in sides if number % 2 == 0 else sides[::-1]:
            window.open(seconds / slices)
            await work()
            window.shut()
    return [window.figures() for window, _ in sides]


# ------------------------------------------------------------------------------------------------------------- tasks on a loop


def echoes(call: Callable[[int, str], Awaitable[Reply]], in_flight: int, window: Window) -> Work:
    """`in_flight` tasks, each with its next call as soon as the last is back."""

    async def worker(number: int) -> None:
        clock = time.perf_counter
        stop_at, latencies, mask = window.stop_at, window.latencies, window.mask
        first = number
        while True:
            started = clock()
            if started >= stop_at:
                break
            number += 1
            text = f"{TEXT}{number & 4095:04d}"
            reply = await call(number, text)
            if reply.a != number or reply.s != text:
                compare(reply, number, text)
            if not number & mask:
                latencies.append(clock() - started)
        window.calls += number - first

    async def work() -> None:
        await asyncio.gather(*(worker(each << 32) for each in range(in_flight)))

    return work


def bulks(call: Callable[[bytes], Awaitable[bytes]], in_flight: int, window: Window) -> Work:
    """The same with 64 KiB bodies, no two in flight alike."""

    async def worker(number: int) -> None:
        clock = time.perf_counter
        stop_at, latencies = window.stop_at, window.latencies
        while True:
            started = clock()
            if started >= stop_at:
                return
            number += in_flight
            body = BODIES[number % len(BODIES)]
            if (reply := await call(body)) != body:
                raise WrongReply(f"asked for {len(body)} bytes of {body[:2]!r}, got {len(reply)} bytes that begin with {reply[:2]!r}")
            window.calls += 1
            latencies.append(clock() - started)

    async def work() -> None:
        await asyncio.gather(*(worker(each) for each in range(in_flight)))

    return work


def streams(open_stream: Callable[[int], AsyncIterator[Reply]], count: int, in_flight: int, window: Window) -> Work:
    """`in_flight` readers, each with its next stream of `count` items as soon as the last has ended. What is counted is items."""

    async def worker() -> None:
        while time.perf_counter() < window.stop_at:
            number = 0
            async for item in open_stream(count):
                if item.a != number:
                    raise WrongReply(f"expected item {number} of a stream, got {item.a}")
                number += 1
            if number != count:
                raise WrongReply(f"expected a stream of {count} items, got {number}")
            window.calls += count

    async def work() -> None:
        await asyncio.gather(*(worker() for _ in range(in_flight)))

    return work


async def opened(connect: Callable[[], Awaitable[Any]], count: int, at_once: int, window: Window) -> Figures:
    """Open `count` connections, `at_once` under way, and call each once. What is quoted is the seconds for all."""
    links: list[Any] = []
    numbers = itertools.count(1)

    async def worker() -> None:
        while (number := next(numbers)) <= count:
            link = await connect()
            links.append(link)
            text = f"{TEXT}{number & 4095:04d}"
            compare(await link.echo(number, text), number, text)
            window.calls += 1

    window.forget()
    window.open(window.seconds)
    await asyncio.gather(*(worker() for _ in range(at_once)))
    window.shut()
    await asyncio.gather(*(link.close() for link in links))
    return window.figures()


# ------------------------------------------------------------------------------------------------- libraries without a loop


def at_a_stretch(work: Callable[[], None], window: Window, in_flight: int) -> Figures:
    """Run a loop for the warm-up, then for what counts."""
    window.warm_up()
    work()
    window.forget(in_flight)
    window.open(window.seconds)
    work()
    window.shut()
    return window.figures()


def threads(links: list[Any], window: Window) -> Figures:
    """One thread and one connection per call in flight, for libraries whose calls block."""
    failed: list[BaseException] = []
    lock = threading.Lock()

    def worker(link: Any, number: int) -> None:
        clock, call, latencies = time.perf_counter, link.echo, window.latencies
        first, stop_at, mask = number, window.stop_at, window.mask
        try:
            link.claim()
            while (started := clock()) < stop_at:
                number += 1
                text = f"{TEXT}{number & 4095:04d}"
                compare(call(number, text), number, text)
                if not number & mask:
                    latencies.append(clock() - started)
        except BaseException as error:
            failed.append(error)  # a thread's error is the measurement's
        with lock:
            window.calls += number - first

    def work() -> None:
        workers = [threading.Thread(target=worker, args=(link, each << 32)) for each, link in enumerate(links)]
        for each in workers:
            each.start()
        for each in workers:
            each.join()
        if failed:
            raise failed[0]

    return at_a_stretch(work, window, len(links))


def pipeline(link: Any, in_flight: int, window: Window) -> Figures:
    """One thread that keeps calls in flight on one connection: `begin(a, s, done)` sends, `pump()` waits for something to come back."""
    open_now = 0

    def ask(number: int) -> None:
        nonlocal open_now
        started = time.perf_counter()
        if started >= window.stop_at:
            return
        number += 1
        text = f"{TEXT}{number & 4095:04d}"
        open_now += 1

        def done(reply: Any) -> None:
            nonlocal open_now
            open_now -= 1
            compare(reply, number, text)
            window.calls += 1
            if not number & window.mask:
                window.latencies.append(time.perf_counter() - started)
            due.append(number)

        link.begin(number, text, done)

    due: list[int] = []

    def work() -> None:
        due.extend(each << 32 for each in range(in_flight))
        while due or open_now:
            ready, due[:] = list(due), []
            for number in ready:
                ask(number)
            if open_now and not due:
                link.pump()

    return at_a_stretch(work, window, in_flight)
