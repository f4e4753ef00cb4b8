"""Names become addresses, in threads of our own.

Owns: the lookups under way, and who waits for them. The system's resolver blocks for as long as it likes and cannot be cancelled, and in
the loop's own pool a few lookups that hang would hold everything else that runs there. So a lookup has a thread for itself while it runs;
there are at most THREADS_MAX, and who asks for the same name waits for the same lookup: a name that hangs takes one thread, not all.

What may never happen here: a wait without end; a thread that outlives its lookup, or keeps the process from ending; a thread for a literal.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from .sockets import Target, lookup, numeric

THREADS_MAX = 2
WAITING_MAX = 64
TIMEOUT_S = 2.0

Key = tuple[str, int, bool]


class Resolver:
    """Looks names up. One per loop.

    Args:
        look: what does it, blocking: host, port, and whether to listen there. The system's resolver.
        threads_max: lookups at once. waiting_max: how many more may wait; one more is refused.
    """

    def __init__(
        self, look: Callable[[str, int, bool], list[Target]] = lookup, *, threads_max: int = THREADS_MAX, waiting_max: int = WAITING_MAX
    ) -> None:
        self._look = look
        self._threads_max = threads_max
        self._waiting_max = waiting_max
        self._lookups: dict[Key, _Lookup] = {}
        self._waiting: dict[_Lookup, None] = {}  # in order
        self._running = 0

    async def resolve(self, host: str, port: int, *, passive: bool = False, timeout_s: float = TIMEOUT_S) -> list[Target]:
        """What `host` stands for, in the order the system gives; at least one address, none twice.

        Args:
            passive: to listen there.
        Raises: OSError with a message for people: no such name, no answer within `timeout_s`, too many who ask.
        Cancel: loses nothing; a lookup nobody waits for any more ends for itself.
        """
        targets = numeric(host, port)
        if targets:
            return targets
        loop = asyncio.get_running_loop()
        key = (host, port, passive)
        found = self._lookups.get(key)
        if found is None:
            found = self._ask(loop, key)
        answer: asyncio.Future[list[Target] | Exception] = loop.create_future()
        found.answers[answer] = None
        deadline = asyncio.timeout(timeout_s)
        try:
            async with deadline:
                result = await answer
        except TimeoutError:
            if not deadline.expired():
                raise
            raise TimeoutError(f"the name {host!r} was not resolved within {timeout_s:g} s") from None
        finally:
            self._stop_waiting(found, answer)
        if isinstance(result, OSError):
            raise type(result)(*result.args)  # one of its own for each who waits: a traceback is not shared
        if isinstance(result, Exception):
            raise OSError(f"the name {host!r} cannot be resolved: {result}") from result
        if not result:
            raise OSError(f"the name {host!r} stands for no IPv4 or IPv6 address")
        return list(dict.fromkeys(result))

    def _ask(self, loop: asyncio.AbstractEventLoop, key: Key) -> _Lookup:
        if len(self._waiting) >= self._waiting_max:
            raise OSError(f"{self._running} lookups run and {self._waiting_max} wait already; {key[0]!r} was not looked up")
        made = self._lookups[key] = _Lookup(loop, key)
        self._waiting[made] = None
        self._start()
        return made

    def _stop_waiting(self, found: _Lookup, answer: asyncio.Future[list[Target] | Exception]) -> None:
        found.answers.pop(answer, None)
        if not found.answers and not found.running and self._lookups.get(found.key) is found:
            del self._lookups[found.key]
            del self._waiting[found]

    def _start(self) -> None:
        while self._waiting and self._running < self._threads_max:
            found = next(iter(self._waiting))
            del self._waiting[found]
            found.running = True
            self._running += 1
            thread = threading.Thread(target=self._work, args=(found,), name=f"holdfast looks up {found.key[0]}", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the system gives no more threads
                found.loop.call_soon(self._done, found, error)  # not yet: who asked is not waiting yet

    def _work(self, found: _Lookup) -> None:
        """In a thread."""
        result: list[Target] | Exception
        try:
            result = self._look(*found.key)
        except Exception as error:
            result = error
        try:
            found.loop.call_soon_threadsafe(self._done, found, result)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _done(self, found: _Lookup, result: list[Target] | Exception) -> None:
        self._running -= 1
        self._lookups.pop(found.key, None)
        for answer in found.answers:
            if not answer.done():
                answer.set_result(result)
        self._start()


class _Lookup:
    """One question to the system's resolver, and all who asked it."""

    __slots__ = ("answers", "key", "loop", "running")

    def __init__(self, loop: asyncio.AbstractEventLoop, key: Key) -> None:
        self.loop = loop
        self.key = key
        self.running = False
        self.answers: dict[asyncio.Future[list[Target] | Exception], None] = {}
