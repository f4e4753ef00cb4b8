"""What all views of a client share: one dialer, its tasks, the numbers of its calls, and what it says about them.

Owns: the call numbers, the scope of the client's background tasks, and waiting for a connection as often as a call may be sent. Which
layers stand above the sender is the roof's business: it hands in `Again`, which says whether and when to try once more.
What may never happen here: a call; those begin in the roof (`client.py`) and in the sender.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from ..clock import Clock, Streams
from ..context import CURRENT
from ..control.wheel import Wheel
from ..errors import HoldfastError
from ..facts import CallEnded, Emit, wants
from ..handler import CallRecord, Reply, Request
from ..net.address import Address
from ..net.link import Network
from ..net.timing import LoopTimer
from ..tasks import Scope
from ..wire import ByteBudget, Replied, Settings, Trailers
from .bound import BoundMethod, Methods, pack_beside
from .dialer import DialConfig, Rules, close_all
from .hops import decode_hops
from .outcall import OnTrailers
from .sender import Sender, StreamPlan
from .session import Checksum, SessionShared

SETTLED_LAG_S = 1.0

OnRecord = Callable[[CallRecord], None]
"""Told what explains a call that is over. Called on the loop; must not raise."""

MakeNetwork = Callable[[Callable[..., asyncio.Task[Any]], Wheel], Network]


class Options(msgspec.Struct, frozen=True):
    """What a view fixes for its calls. `deadline` is seconds, None for none, or the roof's mark for "as configured".

    `trailers` is told what servers say beside their answers; without it they are not asked to. `walks` sums up that its calls say more than
    the merged way can carry.
    """

    deadline: Any
    attempts: int = 3
    idempotent: bool = True
    wait_for_ready: bool = False
    trailers: OnTrailers | None = None
    waiting_max: int | None = None
    key: str | None = None
    explain: OnRecord | None = None
    fallback: Any = None
    hedge: bool = True
    walks: bool = False


class Trunk:
    """Made when a client is entered, on the loop it lives on.

    Attributes:
        spawn: makes a task that ends with the client.
        tells_calls: whether anybody hears how calls end.
    """

    __slots__ = (
        "_dial", "_dial_rng", "_forget_at", "_low", "_low_at", "_settled", "_shared", "_trace_rng", "_waiting", "create_future",
        "dialers", "emit", "loop", "methods", "network", "now", "number", "scope", "spawn", "tells_calls", "timer", "wheel",
    )  # fmt: skip

    def __init__(
        self,
        clock: Clock,
        rng: Streams,
        emit: Emit,
        make_network: MakeNetwork,
        wire: Settings,
        dial: DialConfig,
        assembly_max_bytes: int,
        checksum: Checksum,
    ) -> None:
        loop = self.loop = asyncio.get_running_loop()
        self.create_future = loop.create_future
        self.now = clock.now
        self.emit = emit
        self.tells_calls = wants(emit, CallEnded)
        self.scope = Scope(self._background_error)
        self.spawn = self.scope.spawn
        self.timer = LoopTimer(loop)
        wheel = Wheel(clock.now, self.timer.call_at)
        instance = rng.secret("instance").getrandbits(128).to_bytes(16)
        settings = msgspec.structs.replace(wire, instance=instance)
        budget = ByteBudget(assembly_max_bytes)
        shared = SessionShared(loop, wheel, emit, settings, budget, checksum=checksum, settled=self.settled)
        try:
            self.network = make_network(self.spawn, wheel)
        except BaseException:
            self.timer.close()
            raise
        self.wheel = wheel
        self.dialers: dict[Sender, None] = {}
        self._forget_at = 8
        self._shared = shared
        self._dial = dial
        self._dial_rng = rng.stream("dial")
        self._trace_rng = rng.stream("trace")
        self.number = 0
        self._waiting: dict[int, None] = {}
        self._low = self._settled = 0
        self._low_at = self.now()
        self.methods = Methods()

    def make_dialer(
        self, address: Address, *, keep: bool = False, charge: Callable[[float], bool] | None = None, rules: Rules | None = None
    ) -> Sender:
        """Make what connects to an address. Those that are gone and have no call open are forgotten now and then."""
        if len(self.dialers) >= self._forget_at:
            for old in [d for d in self.dialers if d.closed and all(session.closed for session in d.sessions)]:
                del self.dialers[old]
            self._forget_at = 2 * len(self.dialers) + 8  # or a set of a thousand would be looked through a thousand times
        made = Sender(address, self.network, self._shared, self._dial, self._dial_rng, self.spawn, keep=keep, charge=charge, rules=rules)
        self.dialers[made] = None
        return made

    def _background_error(self, error: BaseException) -> None:
        self.loop.call_exception_handler({"message": "holdfast client: a background task failed", "exception": error})

    async def close(self, *, within_s: float) -> None:
        """Close the connections, then the tasks; each for at most `within_s` seconds. Cancel: the rest is cut."""
        try:
            await close_all(list(self.dialers), within_s=within_s)
        finally:
            try:
                await self.scope.close(grace_s=within_s)
            finally:
                self.timer.close()

    def request(
        self,
        method: BoundMethod,
        body: bytes,
        deadline_at: float | None,
        extra: tuple[int, bytes] | None,
        options: Options,
        plan: StreamPlan | None,
        number: int = 0,
    ) -> Request:
        """Make the value that the layers see; with the number of a call whose first attempt was made already, or a new one.

        One that is to be explained asks the server how it went there, too.
        """
        if not number:
            self.number = number = self.number + 1
        request = Request(
            method.info,
            body,
            method.codec.raw_args,
            deadline_at,
            number,
            "original",
            options.attempts,
            method.idempotent and options.idempotent,
            options.wait_for_ready,
            method.wire_name,
            extra,
            plan,
            options.trailers,
            options.waiting_max,
            options.hedge,
            options.key,
            fallback=options.fallback,
            on_record=options.explain,
        )
        ambient = CURRENT.get()
        request.hops = None if ambient is None else ambient.hops
        if options.explain is not None or request.hops is not None:
            request.on_trailers = functools.partial(_told_beside, request, options.trailers)
        return request

    async def until_settled(self, request: Request, sending: Awaitable[Reply]) -> Reply:
        """Await a call that may be between two attempts, where no connection knows it. Cancel: as `sending`."""
        self._waiting[request.number] = None
        try:
            return await sending
        finally:
            self._waiting.pop(request.number, None)

    async def finished(self, method: BoundMethod, started: float, request: Request, sending: Awaitable[Reply]) -> Any:
        """Await a unary call, decode its result, and say how it ended. Raises: what it ended with. Cancel: as `sending`."""
        try:
            reply = await self.until_settled(request, sending)
        except (HoldfastError, asyncio.CancelledError) as error:
            self.tell(method.info.name, _code_of(error), started)
            raise
        return self.taken(method, reply, started)

    def settled(self) -> int:
        """Return a number below which every call is over, whatever connection it was on; it only grows.

        A call that has just failed on its connection and whose task has not run yet to try again is in no table. So it takes two looks, a
        second or more apart: such a call was in a table at the first, or its number is above all that were, or it is in one at the second.
        """
        now = self.now()
        if now - self._low_at >= SETTLED_LAG_S:
            open_numbers = [call.number for dialer in self.dialers for session in dialer.sessions for call in session.conn.calls.values()]  # type: ignore[attr-defined]
            low = min(min(open_numbers, default=self.number + 1), min(self._waiting, default=self.number + 1))
            self._settled = max(self._settled, min(self._low, low))
            self._low, self._low_at = low, now
        return self._settled

    def beside(self, metadata: Mapping[str, str] | None) -> tuple[int, bytes] | None:
        """What travels beside the arguments of a call made now; see `pack_beside`."""
        ambient = CURRENT.get()
        return pack_beside(None if ambient is None else ambient.trace, metadata, self._trace_rng)

    def taken(self, method: BoundMethod, reply: Reply | Replied, started: float) -> Any:
        """Decode a result and say that the call is over. Raises: BadReply."""
        try:
            result = method.codec.decode_result(reply.body, reply.raw)
        except HoldfastError as error:
            self.tell(method.info.name, error.code, started)
            raise
        if self.tells_calls:
            self.tell(method.info.name, "ok", started)
        return result

    def tell(self, method: str, code: str, started: float) -> None:
        """Say how a call ended, if anybody listens."""
        if self.tells_calls:
            self.emit(CallEnded("client", method, code, self.now() - started))


def _told_beside(request: Request, then: OnTrailers | None, method: str, trailers: Trailers) -> None:
    """The server said how an explained call went there; who asked for trailers as well is told them."""
    record = request.record
    if record is not None:
        record.queue_us, record.run_us = trailers.queue_us, trailers.run_us
        record.hops = decode_hops(trailers.hops)
    if then is not None:
        then(method, trailers)


def _code_of(error: HoldfastError | asyncio.CancelledError) -> str:
    """What a call that ended so is counted under."""
    return error.code if isinstance(error, HoldfastError) else "cancelled"
