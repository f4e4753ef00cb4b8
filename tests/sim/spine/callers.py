"""The clients of the campaign: they do what was drawn, each call in a task of its own, and judge what comes back.

Owns: one operation from its beginning to its end, and the invariants that its caller can see: it ends, in time, with a result that belongs
to it or with an error that says the truth. What the error claims of the handler is looked at when the world is over (`campaign.py`).

What may never happen here: an operation that ends and is not in the ledger. One whose host died is in it as well: as killed.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import holdfast
from holdfast import errors
from holdfast.sim import InvariantBroken
from holdfast.wire import Trailers

from .drawing import Op
from .service import Answer, Item, filler
from .truth import Truth

IDLE_ERRORS = (
    errors.Overloaded,
    errors.Unavailable,
    errors.OutcomeUnknown,
    errors.DeadlineExceeded,
    errors.Cancelled,
    errors.ProtocolError,
)
"""What any call may end with in such weather."""

_OWN_ERRORS: dict[str, tuple[type[errors.HoldfastError], ...]] = {
    "fail": (errors.InternalError,),
    "refuse": (errors.Refused,),
    "missing": (errors.MethodNotFound,),
}


class Caller:
    """Does the operations of one client.

    Attributes:
        counted: how many calls of each method it made of which a CallEnded must tell.
    """

    def __init__(self, truth: Truth, client: holdfast.Client) -> None:
        self._truth = truth
        self._client = client
        self._loop = asyncio.get_running_loop()
        self.counted: Counter[str] = Counter()

    # ---------------------------------------------------------------------------------------------------------- one operation

    async def do(self, op: Op) -> None:
        """Do it, and write down how it ended."""
        truth, loop = self._truth, self._loop
        running = loop.create_task(self._ending(op), name=op.key)
        if op.cancel_s is not None:
            loop.call_later(op.cancel_s, running.cancel)
        await asyncio.wait([running])
        truth.moved += 1
        truth.require(op.key not in truth.over, "ended-once", f"{op} ended a second time")
        if running.cancelled():
            truth.over[op.key] = "cancelled"
            truth.reached("a caller was cancelled")
            return
        ending = running.result()
        truth.over[op.key] = ending
        truth.ended[ending] += 1

    async def _ending(self, op: Op) -> str:
        """`ok`, or `Class/executed` of the error."""
        try:
            await _DO[op.what](self, op)
        except errors.HoldfastError as error:
            return self._error(op, error)
        except (InvariantBroken, asyncio.CancelledError):
            raise
        except Exception as error:
            self._truth.broke(InvariantBroken("ended-once", f"{op} ended with {error!r}, which is no error of holdfast"))
            return "broken"
        return "ok"

    def _error(self, op: Op, error: errors.HoldfastError) -> str:
        own = _OWN_ERRORS.get(op.what, ())
        too_large = isinstance(error, errors.InvalidArgument) and " bytes" in str(error)
        known = (
            isinstance(error, own + IDLE_ERRORS) or too_large or (isinstance(error, errors.BadReply) and "cannot be taken" in str(error))
        )
        self._truth.require(known, "right-answer", f"{op} ended with {error!r}")
        if isinstance(error, errors.Refused):
            self._truth.require(error.details == {"key": op.key}, "right-answer", f"{op} was refused with {error.details!r}")
        if isinstance(error, errors.ProtocolError) and not str(error).startswith(("no handshake", "a frame that was begun", "the server")):
            self._truth.require(False, "honest", f"{op} ended with {error!r}")
        if "but its answer" in str(error):
            self._truth.reached("an answer was too large")
        if isinstance(error, errors.OutcomeUnknown):
            self._truth.reached("an outcome was unknown")
        return f"{type(error).__name__}/{error.executed}"

    async def _waited(self, op: Op, waiting: Coroutine[Any, Any, Any], due_at: float, what: str) -> Any:
        """Await something that must not take longer than until `due_at`, on the clock of this host."""
        due_at = max(due_at, self._loop.time())
        try:
            return await waiting
        except asyncio.CancelledError:
            due_at = math.inf  # its end is another's doing
            raise
        finally:
            self._truth.in_time(str(op), due_at, what)

    # ------------------------------------------------------------------------------------------------------------- what is done

    def _view(self, op: Op, told: list[Any]) -> holdfast.Client:
        def on_trailers(method: str, trailers: Trailers) -> None:
            told.append((method, trailers))

        return self._client.using(
            deadline=op.deadline_s, attempts=op.attempts, wait_for_ready=op.wait, trailers=on_trailers if op.trailers else None
        )

    def _due_at(self, seconds: float | None) -> float:
        return math.inf if seconds is None else self._loop.time() + seconds

    def _extra(self, op: Op) -> dict[str, Any]:
        return {"metadata": {"key": op.key, "of": "this call"}} if op.metadata else {}

    async def _call(self, op: Op, method: str, **arguments: Any) -> Answer:
        told: list[Any] = []
        self.counted[f"spine.{method}"] += 1
        calling = self._view(op, told).call(f"spine.{method}", key=op.key, returns=Answer, **arguments, **self._extra(op))
        found: Answer = await self._waited(op, calling, self._due_at(op.deadline_s), "its answer")
        self._look_at_trailers(op, method, told)
        return found

    def _look_at_trailers(self, op: Op, method: str, told: list[Any]) -> None:
        if not op.trailers:
            return
        need = self._truth.require
        need(1 <= len(told) <= op.attempts, "right-answer", f"{op} was told {len(told)} trailers")
        need({name for name, _ in told} == {f"spine.{method}"}, "right-answer", f"{op} was told of {told}")
        if told and op.nap_s and method in ("nap", "doze"):
            run_s = max(trailers.run_us for _, trailers in told) / 1e6  # of attempts beside one another all may end in one turn
            need(run_s >= 0.8 * op.nap_s, "right-answer", f"{op} ran {run_s} s, says the server")

    async def unary(self, op: Op) -> None:
        """A call with one answer."""
        naps = {"nap_s": op.nap_s} if op.what in ("nap", "doze", "block", "stubborn", "refuse", "timed") else {}
        reply = {"reply": op.reply} if op.what in ("echo", "put", "nap", "doze", "plain", "block") else {}
        most = {"most_s": -1.0 if op.deadline_s is None else op.deadline_s} if op.what == "timed" else {}
        found = await self._call(op, op.what, body=filler(op.key, op.size), **naps, **reply, **most)
        need = self._truth.require
        need(op.what not in ("fail", "refuse", "shed"), "right-answer", f"{op} cannot succeed, and did")
        need(found.key == op.key, "right-answer", f"{op} got the answer of {found.key}")
        if reply:
            need(found.body == filler(op.key, op.reply), "right-answer", f"{op} got other bytes than its own")
            need(found.taken == op.size, "right-answer", f"the server took {found.taken} bytes of {op}")
        if op.what == "about":
            given = self._extra(op).get("metadata", {})
            need(found.metadata == given, "right-answer", f"{op} came with {found.metadata}")
            need(found.body == filler(op.key, op.size), "right-answer", f"{op} got other bytes than its own")

    def _items(self, op: Op, sent: list[int]) -> AsyncIterator[Item]:
        async def items() -> AsyncIterator[Item]:
            for number in range(op.items):
                if op.read_s:
                    await asyncio.sleep(op.read_s)
                sent.append(number)
                self._truth.moved += 1
                yield Item(op.key, number, filler(op.key, op.size))

        return items()

    async def collect(self, op: Op) -> None:
        """An upload."""
        sent: list[int] = []
        found = await self._call(op, "collect", size=op.size, items=self._items(op, sent))
        need = self._truth.require
        need(found.key == op.key, "right-answer", f"{op} got the answer of {found.key}")
        need(found.taken == op.items == len(sent), "in-order", f"{op} sent {len(sent)} items of {op.items}, the server read {found.taken}")

    async def stream(self, op: Op) -> None:
        """Items come; items may go at the same time."""
        told: list[Any] = []
        sent: list[int] = []
        size = op.size if op.what == "both" else op.reply
        rest: dict[str, Any] = {"size": size, "items": op.items, "nap_s": op.nap_s}
        if op.what == "both":
            rest = {"size": size, "items": self._items(op, sent)}
        view = self._view(op, told)
        items = view.stream(
            f"spine.{op.what}", key=op.key, returns=Item, idle=op.idle_s, deadline_total=op.total_s, **rest, **self._extra(op)
        )
        first_at, total_at = self._due_at(op.deadline_s), self._due_at(op.total_s)
        if op.stop is not None and op.leave == "abandon":
            await self._read(op, items, size, first_at, total_at)
            return
        await self._waited(op, items.__aenter__(), min(first_at, total_at), "the stream to open")
        try:
            read = await self._read(op, items, size, first_at, total_at)
        finally:
            await items.aclose()
        if op.stop is None:
            self._truth.require(read == op.items, "in-order", f"{op} ended after {read} items of {op.items}")

    async def _read(self, op: Op, items: Any, size: int, first_at: float, total_at: float) -> int:
        expected, need, due_at = 0, self._truth.require, min(first_at, total_at)
        while expected != op.stop:
            try:
                item = await self._waited(op, items.__anext__(), due_at, f"item {expected}")
            except StopAsyncIteration:
                break
            right = item.key == op.key and item.number == expected
            need(right, "in-order", f"{op} expected item {expected}, got {item.number} of {item.key}")
            need(item.body == filler(op.key, size), "right-answer", f"item {expected} of {op} has other bytes than its own")
            expected += 1
            self._truth.moved += 1
            if op.read_s and op.what == "count":
                await asyncio.sleep(op.read_s)
            due_at = min(total_at, self._due_at(op.idle_s))
        return expected

    async def ready(self, op: Op) -> None:
        """Wait for a connection."""
        await self._waited(op, self._client.using(deadline=op.deadline_s).ready(), self._due_at(op.deadline_s), "a connection")

    async def catalogue(self, op: Op) -> None:
        """Ask what there is."""
        found = await self._client.catalogue()
        self._truth.require(any(each.name == "spine.echo" for each in found.entries), "right-answer", f"{op}: a catalogue without echo")

    async def missing(self, op: Op) -> None:
        """Call what is not there."""
        calling = self._client.using(deadline=op.deadline_s, attempts=op.attempts).call("spine.missing", 1)
        await self._waited(op, calling, self._due_at(op.deadline_s), "its answer")


_DO: dict[str, Callable[[Caller, Op], Coroutine[Any, Any, None]]] = dict.fromkeys(
    ("echo", "put", "nap", "doze", "fail", "refuse", "shed", "plain", "block", "stubborn", "about", "timed"), Caller.unary
)
_DO |= {"count": Caller.stream, "both": Caller.stream, "collect": Caller.collect}
_DO |= {"ready": Caller.ready, "catalogue": Caller.catalogue, "missing": Caller.missing}
