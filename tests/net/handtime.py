"""Time that is moved by hand, and a timer wheel on it."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.control.wheel import Wheel


class HandTime:
    """Begins at 100 s. `move_to` runs what falls due on the way."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.wheel = Wheel(lambda: self.now_s, self._call_at)
        self._armed: list[tuple[float, Callable[[], None]]] = []

    def move_to(self, when: float) -> None:
        self.now_s = when
        due, self._armed = self._armed, []
        for at, callback in due:
            if at <= when:
                callback()
            else:
                self._armed.append((at, callback))

    def _call_at(self, when: float, callback: Callable[[], None]) -> None:
        self._armed.append((when, callback))
