"""The children of a measurement end with it, wherever an interrupt comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from bench import processes

SLEEPER = ("sleep", "600")


def is_running(child: subprocess.Popen[str]) -> bool:
    return child.poll() is None


def test_an_interrupt_while_a_child_is_made_waits_until_somebody_can_end_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[subprocess.Popen[str]] = []

    class Interrupted(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)
            signal.raise_signal(signal.SIGINT)
            made.append(self)

    monkeypatch.setattr(processes.subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        processes.start(*SLEEPER, core=0)
    assert len(made) == 2, "the interrupt came before the child was known"
    assert is_running(made[0])
    processes.end_all()
    assert made[0].returncode == -signal.SIGTERM


def test_an_interrupt_while_a_child_is_ended_waits_until_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    child = processes.start(*SLEEPER, core=0)
    kill: Callable[[int, int], None] = os.killpg

    def interrupted(group: int, number: int) -> None:
        if number == signal.SIGTERM:
            signal.raise_signal(signal.SIGINT)
        kill(group, number)

    monkeypatch.setattr(processes.os, "killpg", interrupted)
    with pytest.raises(KeyboardInterrupt):
        processes.end(child)
    assert child.returncode == -signal.SIGTERM
    assert child.stdout is not None and child.stdout.closed


def test_a_child_can_be_interrupted() -> None:
    child = processes.start(sys.executable, "-c", "import signal; print({2, 15} & signal.pthread_sigmask(0, ()), flush=True)", core=0)
    try:
        assert child.stdout is not None
        assert child.stdout.readline() == "set()\n"
    finally:
        processes.end(child)
