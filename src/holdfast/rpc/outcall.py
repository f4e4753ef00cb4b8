"""A call of ours while it is open, as its connection keeps it.

Owns: what the session and whoever waits for a call share. What may never happen here: behaviour; who ends a call is the session's business.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

from ..wire import CallState, Replied, Trailers
from .streams import ItemBuffer

OnTrailers = Callable[[str, Trailers], None]
"""Told the method and what the server said beside its answer. Called on the loop; must not raise."""


class Outcall(CallState, eq=False):
    """A call of ours that is open. `future` gets the Replied event, and is let go then; a stream has a buffer instead of (or beside) it.

    Attributes:
        beside_at: when another attempt may be sent beside it; inf for never, or when that was said already. `StillOpen` says it.
    """

    future: Any = None
    expires_at: float = math.inf
    buffer: ItemBuffer | None = None
    total_at: float = math.inf
    method: str = ""
    number: int = 0
    on_trailers: OnTrailers | None = None
    beside_at: float = math.inf


class StillOpen(Exception):
    """What the future of a call is given when the call has been under way for long: it goes on, with another future."""

    def __init__(self, future: asyncio.Future[Replied]) -> None:
        super().__init__()
        self.future = future
