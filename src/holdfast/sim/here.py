"""Which world is running in this process of the operating system: one at a time, and in one thread.

Owns: that one reference, which stands-in functions (`patches.py`, `sockets.py`) ask who calls them.
What may never happen here: two worlds at once.
"""

from __future__ import annotations

import threading
from typing import Any

from .engine import Engine
from .escapes import Escape

_running: list[Engine] = []


def begin(engine: Engine) -> None:
    """A world begins. Raises: Escape when another one runs."""
    if _running:
        raise Escape("a simulated world runs already; one cannot be run inside another")
    _running.append(engine)


def end(engine: Engine) -> None:
    """It is over."""
    _running.remove(engine)


def engine_here() -> Engine | None:
    """The world the calling thread is in; None for a thread that is in none."""
    engine = _running[0] if _running else None
    return engine if engine is not None and engine.thread == threading.get_ident() else None


def here() -> Any:
    """The process whose code is calling. Raises: Escape outside of a world."""
    engine = engine_here()
    if engine is None or engine.current is None:
        raise Escape("a simulated socket outside of a running world; make it in code that a host runs")
    return engine.current
