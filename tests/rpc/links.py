"""Sessions without a network: a link that keeps what is written, a clock that is moved by hand, and the peer's protocol machine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from holdfast.control.wheel import Wheel
from holdfast.facts import Fact
from holdfast.handler import MethodInfo, Request
from holdfast.rpc.caller import CallerSession
from holdfast.rpc.outcall import Outcall
from holdfast.rpc.session import Session, SessionShared
from holdfast.wire import ByteBudget, Connection, Event, Settings


class Time:
    """A clock and the loop timers set on it."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def now(self) -> float:
        return self.time

    def call_at(self, when: float, callback: Callable[[], None]) -> None:
        self.timers.append((when, callback))

    def advance(self, seconds: float) -> None:
        """Let time pass, timer by timer."""
        end = self.time + seconds
        while due := [timer for timer in self.timers if timer[0] <= end]:
            first = min(due, key=lambda timer: timer[0])
            self.timers.remove(first)
            self.time = max(self.time, first[0])
            first[1]()
        self.time = end


class FakeLink:
    """Keeps what is written."""

    local = "memory://here"
    peer = "memory://there"
    certificate = None

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.ended = ""
        self.reading = True

    def write(self, data: bytes) -> bool:
        if self.ended:
            return False
        self.written.append(data)
        return True

    def write_chunks(self, chunks: Sequence[bytes | memoryview]) -> bool:
        return self.write(b"".join(chunks))

    def write_buffer_bytes(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"

    def is_closing(self) -> bool:
        return bool(self.ended)

    def taken(self) -> bytes:
        """What was written since the last look."""
        data = b"".join(self.written)
        self.written.clear()
        return data


class Bench:
    """One session on a fake link, and the machine of its peer."""

    def __init__(self, session: Session | None = None, *, settings: Settings | None = None, remote: Settings | None = None) -> None:
        self.time = Time()
        self.facts: list[Fact] = []
        self.wheel = Wheel(self.time.now, self.time.call_at)
        self.settings = settings or Settings()
        self.shared = SessionShared(asyncio.get_running_loop(), self.wheel, self.facts.append, self.settings, ByteBudget(1 << 24))
        self.link = FakeLink()
        self.peer = Connection("server", remote or Settings(), budget=ByteBudget(1 << 24))
        self.caller = CallerSession(self.shared)

    def shake_hands(self) -> CallerSession:
        """Our caller, connected."""
        self.caller.link_made(self.link)
        self.events()
        self.peer.send_welcome(self.peer.local)
        self.answer()
        return self.caller

    def events(self) -> list[Event]:
        """What the peer understands of what was written since the last look."""
        self.peer.events.clear()
        self.peer.receive_data(memoryview(self.link.taken()))
        return list(self.peer.events)

    def answer(self, session: Session | None = None) -> None:
        """Hand on what the peer has to say."""
        data = self.peer.take_output(1 << 24)
        assert (session or self.caller).bytes_received(memoryview(data)) == len(data)

    def call(self, deadline_s: float | None = None, **more: Any) -> Outcall:
        """Open a call that has a future."""
        expires_at = float("inf") if deadline_s is None else self.time.now() + deadline_s
        future = more.pop("future", asyncio.get_running_loop().create_future())
        call = Outcall(future=future, expires_at=expires_at, method="shop.place", **more)
        deadline_at = None if deadline_s is None else expires_at
        request = Request(MethodInfo("shop.place"), b"\x80", False, deadline_at, 1, wire_name=b"shop.place")
        self.caller.open(request, call, self.time.now(), takes=future is None)
        return call

    def lose(self, error: Exception | None = None) -> None:
        """The end of the connection."""
        self.caller.link_lost(error)


async def turn() -> None:
    """One turn of the loop."""
    await asyncio.sleep(0)
