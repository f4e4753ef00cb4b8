"""The clients of the campaign: they do what was drawn, each call in a task of its own, and judge what comes back.

Owns: one operation from its beginning to its end, and the invariants that its caller can see: it ends, in time, with a result that belongs
to it or with an error that says the truth, and it does not fail while it was promised a node. Which calls have that promise (`promised`):

    the client is on the quiet host, in a world without stalls, and the rock is among the nodes that its source names for the whole time
    and that it uses (no subset); it was connected to the rock before the call began. The method is idempotent, and the call may be
    executed twice. It has as many attempts as there are nodes, so that the rock's turn comes, and three seconds at least, of which each
    attempt has its share, and attempts beside slow ones are on. Its handler takes a tenth of a second at most, and the rock has room.
    Nobody cancels it. While it was under way no policy said no: neither the retry budget, nor the throttle, a limit, a queue, nor, where
    no panic overrules it, the rock's breaker, which another call had tripped by giving its handler less time than it takes. And it did not
    end with an answer of a handler (a bug there, a refusal), which is no failure to reach one.

What may never happen here: an operation that ends and is not in the ledger.
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
from tests.sim.spine.service import Answer, Item, filler

from .drawing import ROCK, Draw, Op, Party
from .service import IDEMPOTENT
from .truth import Account, Truth

KNOWN_ERRORS = (
    errors.Overloaded,
    errors.Unavailable,
    errors.OutcomeUnknown,
    errors.DeadlineExceeded,
    errors.Cancelled,
    errors.ProtocolError,
)
"""What any call may end with in such weather."""

ANSWERS = (errors.InternalError, errors.Refused)
INSTEAD = Answer("instead", b"")
RUNS_ON_S = 0.005
"""So long after a call was answered, the attempts that were beside the one that won may go on."""

PROMISE_DEADLINE_S = 3.0
PROMISE_NAP_S = 0.1


class Caller:
    """Does the operations of one client.

    Attributes:
        counted: how many calls of each method it made of which a CallEnded must tell.
    """

    def __init__(self, truth: Truth, client: holdfast.Client, drawn: Draw, party: Party) -> None:
        self._truth = truth
        self._client = client
        self._drawn = drawn
        self._party = party
        self._loop = asyncio.get_running_loop()
        self._late = False
        self._account: Account = next(each for each in truth.accounts if each.core is client._core)
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
        """`ok`, `instead`, or `Class/executed` of the error."""
        began_at, promised, account = self._truth.now(), self.promised(op), self._account
        try:
            how = await _DO[op.what](self, op)
        except errors.HoldfastError as error:
            self._late = self._late or isinstance(error, errors.DeadlineExceeded)
            held = max(account.denied_at, account.held_at) >= began_at or self._tripped()
            if promised and not held and not isinstance(error, ANSWERS):
                self._truth.require(False, "healthy-serves", f"{op} failed with {error!r}, and {ROCK} was there all the time")
            return self._error(op, error)
        except (InvariantBroken, asyncio.CancelledError):
            raise
        except Exception as error:
            self._truth.broke(InvariantBroken("ended-once", f"{op} ended with {error!r}, which is no error of holdfast"))
            return "broken"
        if promised:
            self._truth.claims += 1
            self._truth.reached("a healthy node was promised, and the call came to good")
        return how

    def promised(self, op: Op) -> bool:
        """Whether this call may not fail; see the top of the file."""
        drawn, config, rock = self._drawn, self._party.config, self._account.rock
        alone = config.balance.subset_above < len(drawn.nodes)
        room = drawn.capacity is None and rock is not None and drawn.servers[ROCK].handlers_max >= 1000
        enough = op.attempts >= len(drawn.nodes) and (op.deadline_s is None or op.deadline_s >= PROMISE_DEADLINE_S)
        quiet = self._truth.world.options.stall_max_s == 0.0 and self._party.host not in ("ada", "bob")
        kind = op.what in IDEMPOTENT and op.what != "count" and not op.once and op.nap_s <= PROMISE_NAP_S
        return room and enough and quiet and kind and not alone and config.retry.beside and op.cancel_s is None

    def _tripped(self) -> bool:
        """Whether the rock is kept out because some call gave it too little time, and will be until its breaker's time is over."""
        calm = self._party.config.balance.panic_share == 0.0
        return calm and self._late and self._account.rock is not None and self._account.rock.gate.shut

    def _error(self, op: Op, error: errors.HoldfastError) -> str:
        own = isinstance(error, errors.InternalError) or (op.what == "refuse" and isinstance(error, errors.Refused))
        self._truth.require(own or isinstance(error, KNOWN_ERRORS), "right-answer", f"{op} ended with {error!r}")
        if isinstance(error, errors.Refused):
            self._truth.require(error.details == {"key": op.key}, "right-answer", f"{op} was refused with {error.details!r}")
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
        more: dict[str, Any] = {}
        if op.explain and op.what not in ("count",):
            more["explain"] = told.append
        if op.hashed:
            more["key"] = op.key
        if op.fallback and op.what not in ("count",):
            more["fallback"] = INSTEAD
        return self._client.using(
            deadline=op.deadline_s,
            attempts=op.attempts,
            wait_for_ready=op.wait,
            hedge=op.hedge,
            idempotent=False if op.once else None,
            waiting_max=op.waiting_max,
            **more,
        )

    def _due_at(self, seconds: float | None) -> float:
        return math.inf if seconds is None else self._loop.time() + seconds

    async def _call(self, op: Op, **arguments: Any) -> Answer:
        told: list[Any] = []
        self.counted[f"fleet.{op.what}"] += 1
        calling = self._view(op, told).call(f"fleet.{op.what}", key=op.key, returns=Answer, **arguments)
        found: Answer = await self._waited(op, calling, self._due_at(op.deadline_s), "its answer")
        if op.explain:
            self._look_at(op, told)
            if self._truth.world.options.stall_max_s == 0.0:
                await asyncio.sleep(RUNS_ON_S)
                running = [trial for record in told for trial in record.attempts if not trial.outcome]
                self._truth.require(not running, "explained", f"{op} is answered, and attempts of it go on: {running}")
        return found

    def _look_at(self, op: Op, told: list[Any]) -> None:
        """The record of a call that was answered says so, once, and tells of its attempts."""
        need = self._truth.require
        need(len(told) == 1, "explained", f"{op} was explained {len(told)} times")
        record = told[0]
        if op.fallback:
            return
        won = [trial for trial in record.attempts if trial.outcome == "ok"]
        need(record.code == "ok" and won, "explained", f"{op} was answered, and its record says {record}")
        need(len(record.attempts) <= op.attempts, "explained", f"{op} had {len(record.attempts)} attempts: {record}")

    async def unary(self, op: Op) -> str:
        """A call with one answer."""
        most = {"most_s": -1.0 if op.deadline_s is None else op.deadline_s} if op.what == "timed" else {}
        found = await self._call(op, nap_s=op.nap_s, **most)
        if found is INSTEAD:
            return "instead"
        need = self._truth.require
        need(op.what != "refuse", "right-answer", f"{op} cannot succeed, and did")
        need(found.key == op.key and found.body == filler(op.key, 20), "right-answer", f"{op} got the answer of {found.key}")
        return "ok"

    async def collect(self, op: Op) -> str:
        """An upload."""

        async def items() -> AsyncIterator[Item]:
            for number in range(op.items):
                self._truth.moved += 1
                yield Item(op.key, number, filler(op.key, 20))

        found = await self._call(op, items=items())
        if found is INSTEAD:
            return "instead"
        right = found.key == op.key and found.taken == op.items
        self._truth.require(right, "in-order", f"{op} sent {op.items} items, the node read {found.taken} of {found.key}")
        return "ok"

    async def count(self, op: Op) -> str:
        """Items come."""
        expected, due_at = 0, self._due_at(op.deadline_s)
        items: Any = self._view(op, []).stream("fleet.count", key=op.key, items=op.items, nap_s=op.nap_s, returns=Item)
        await self._waited(op, items.__aenter__(), due_at, "the stream to open")
        try:
            while True:
                try:
                    item = await self._waited(op, items.__anext__(), due_at, f"item {expected}")
                except StopAsyncIteration:
                    break
                due_at = math.inf
                right = item.key == op.key and item.number == expected
                self._truth.require(right, "in-order", f"{op} expected item {expected}, got {item.number} of {item.key}")
                expected += 1
                self._truth.moved += 1
        finally:
            await items.aclose()
        self._truth.require(expected == op.items, "in-order", f"{op} ended after {expected} items of {op.items}")
        return "ok"


_DO: dict[str, Callable[[Caller, Op], Coroutine[Any, Any, str]]] = dict.fromkeys(
    ("echo", "doze", "put", "nap", "refuse", "timed"), Caller.unary
)
_DO |= {"count": Caller.count, "collect": Caller.collect}
