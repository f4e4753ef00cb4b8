"""SIGINT and SIGTERM as something a program can await, and SIGHUP as something it can be told.

Owned here: the handlers while the block is open, and putting back what was there. What may never happen: a signal that is swallowed. The
first asks for a graceful stop, the second for a hard one, and from then on the system's own handling is back, so that a third ends even a
program that does not listen.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import TypeAlias

from ..facts import Emit, SignalReceived, discard

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_Previous: TypeAlias = "Callable[[int, FrameType | None], object] | int | None"


class Signals:
    """An async context manager; inside it SIGINT and SIGTERM no longer interrupt, they are told.

    Args:
        emit: gets a SignalReceived per signal.
        on_hard: called once, at the second signal, in the loop's thread.

    Raises: RuntimeError when entered outside the main thread: only that one can receive signals.
    """

    def __init__(self, *, emit: Emit = discard, on_hard: Callable[[], object] | None = None) -> None:
        self._emit = emit
        self._on_hard = on_hard
        self._previous: dict[signal.Signals, _Previous] = {}
        self._stop = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self.received: list[str] = []

    async def __aenter__(self) -> Signals:
        loop = asyncio.get_running_loop()
        for number in STOP_SIGNALS:
            previous = signal.getsignal(number)
            try:
                loop.add_signal_handler(number, self._on_signal, number)
            except ValueError as error:
                raise RuntimeError("signals reach the main thread only; open Signals there") from error
            self._previous[number] = previous
        self._loop = loop
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._release(restore=True)

    def on_hangup(self, callback: Callable[[], object]) -> None:
        """Call `callback`, in the loop's thread, at each SIGHUP from now on. Without this a SIGHUP ends the process, as it always did."""
        assert self._loop is not None, "open Signals first"
        previous = signal.getsignal(signal.SIGHUP)
        self._loop.add_signal_handler(signal.SIGHUP, self._on_hangup, callback)
        self._previous.setdefault(signal.SIGHUP, previous)

    @property
    def stopping(self) -> bool:
        """Whether a graceful stop was asked for."""
        return self._stop.is_set()

    @property
    def hard(self) -> bool:
        """Whether a hard stop was asked for."""
        return len(self.received) > 1

    async def stop(self) -> str:
        """Wait for the first signal; return its name, `SIGTERM`.

        Cancel: loses nothing; a signal that came is still known.
        """
        await self._stop.wait()
        return self.received[0]

    def _on_signal(self, number: signal.Signals) -> None:
        self.received.append(number.name)
        self._stop.set()
        if self.hard:
            self._release(restore=False)
        self._emit(SignalReceived(name=number.name))
        if self.hard and self._on_hard is not None:
            self._on_hard()

    def _on_hangup(self, callback: Callable[[], object]) -> None:
        self._emit(SignalReceived(name="SIGHUP"))
        callback()

    def _release(self, *, restore: bool) -> None:
        """Take our handlers out. `restore` puts back what was there; otherwise the system's default, which ends the process."""
        previous, self._previous = self._previous, {} if restore else self._previous
        for number, handler in previous.items():
            if self._loop is not None:
                self._loop.remove_signal_handler(number)
            signal.signal(number, (signal.SIG_DFL if handler is None else handler) if restore else signal.SIG_DFL)
