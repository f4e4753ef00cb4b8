"""Signals reach the program that awaits them, and what was there before comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

from holdfast.facts import Fact, SignalReceived
from holdfast.runtime.signals import STOP_SIGNALS, Signals

pytestmark = pytest.mark.both_loops


@pytest.mark.parametrize("number", STOP_SIGNALS)
async def test_the_first_signal_asks_for_a_stop(number: signal.Signals) -> None:
    facts: list[Fact] = []
    async with Signals(emit=facts.append) as signals:
        assert not signals.stopping
        os.kill(os.getpid(), number)
        async with asyncio.timeout(5):
            assert await signals.stop() == number.name
        assert signals.stopping
        assert not signals.hard
    assert facts == [SignalReceived(name=number.name)]


async def test_the_second_signal_is_hard_and_gives_the_default_handling_back() -> None:
    hard = asyncio.Event()
    async with Signals(on_hard=hard.set) as signals:
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            await signals.stop()
        os.kill(os.getpid(), signal.SIGINT)
        async with asyncio.timeout(5):
            await hard.wait()
        assert signals.hard
        assert signals.received == ["SIGTERM", "SIGINT"]
        assert [signal.getsignal(n) for n in STOP_SIGNALS] == [signal.SIG_DFL, signal.SIG_DFL]


@pytest.mark.parametrize("with_signal", [False, True])
async def test_leaving_restores_what_was_there(with_signal: bool) -> None:
    def mine(number: int, frame: object) -> None:
        raise AssertionError("not while Signals is open")

    before = signal.signal(signal.SIGTERM, mine)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        async with Signals() as signals:
            if with_signal:
                os.kill(os.getpid(), signal.SIGTERM)
                async with asyncio.timeout(5):
                    await signals.stop()
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is interrupt
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_cancelled_wait_loses_nothing() -> None:
    async with Signals() as signals:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await signals.stop()
        os.kill(os.getpid(), signal.SIGTERM)
        async with asyncio.timeout(5):
            assert await signals.stop() == "SIGTERM"
            assert await signals.stop() == "SIGTERM"


async def test_outside_the_main_thread_it_is_refused_in_words() -> None:
    errors: list[BaseException] = []

    async def enter() -> None:
        async with Signals():
            raise AssertionError("entered")

    def elsewhere() -> None:
        try:
            asyncio.run(enter())
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert "main thread" in str(errors[0])


async def test_a_hangup_calls_whoever_wants_it_and_asks_for_no_stop() -> None:
    before = signal.getsignal(signal.SIGHUP)
    told = asyncio.Event()
    facts: list[Fact] = []
    async with Signals(emit=facts.append) as signals:
        assert signal.getsignal(signal.SIGHUP) == before, "nobody asked for it yet"
        signals.on_hangup(told.set)
        for _ in range(2):
            told.clear()
            os.kill(os.getpid(), signal.SIGHUP)
            async with asyncio.timeout(5):
                await told.wait()
        assert not signals.stopping
    assert facts == [SignalReceived(name="SIGHUP")] * 2
    assert signal.getsignal(signal.SIGHUP) == before
