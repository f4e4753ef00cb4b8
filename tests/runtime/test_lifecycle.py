"""A program runs on the loop it asked for and ends as the signals say."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from holdfast.errors import ConfigError
from holdfast.runtime.lifecycle import loop_factory, run_until_signal
from holdfast.runtime.signals import Signals


@pytest.mark.parametrize("loop", ["auto", "uvloop", "asyncio"])
def test_the_result_comes_back(loop: str) -> None:
    async def main(signals: Signals) -> str:
        return type(asyncio.get_running_loop()).__module__

    module = run_until_signal(main, loop=loop)  # type: ignore[arg-type]
    assert ("uvloop" in module) == (loop != "asyncio")


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_first_signal_lets_the_program_end_by_itself(loop: str) -> None:
    async def main(signals: Signals) -> str:
        os.kill(os.getpid(), signal.SIGTERM)
        name = await signals.stop()
        await asyncio.sleep(0)
        return f"drained after {name}"

    assert run_until_signal(main, loop=loop) == "drained after SIGTERM"  # type: ignore[arg-type]


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_the_second_signal_cancels_the_program(loop: str) -> None:
    cleaned: list[bool] = []

    async def main(signals: Signals) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        await signals.stop()
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt):
        run_until_signal(main, loop=loop)  # type: ignore[arg-type]
    assert cleaned == [True]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_what_the_program_raises_comes_out() -> None:
    async def main(signals: Signals) -> None:
        raise ConfigError("port in use")

    with pytest.raises(ConfigError, match="port in use"):
        run_until_signal(main)


def test_a_missing_uvloop_is_an_error_only_when_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert loop_factory("auto")[0] == "asyncio"
    with pytest.raises(ConfigError, match="pip install uvloop"):
        loop_factory("uvloop")
