"""The sending side: count and measure in your process, and have it reported over UDP; and a load to try the receiver with.

    async with sending("udp://127.0.0.1:8125", "web-1") as metrics:
        metrics.count("orders")
        metrics.gauge("queue", 17)

    python metrics_sender.py udp://127.0.0.1:8125 --name web-1        a load; prints what the receiver must come to

Everything is reported every second, whether it changed or not: what a lost datagram carried comes again by itself. Counting never waits and
never fails because of the network. On leaving, the last totals are repeated until the receiver has answered them, for at most five seconds.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from metrics_wire import DATAGRAM_MAX_BYTES, Answer, Malformed, Report, entry_bytes, head_bytes, pack, split, unpack

import holdfast

EVERY_S = 1.0
ANSWER_S = 0.1
FINISH_S = 5.0
NAMES_MAX = 1_000


def new_instance() -> int:
    """An id for one life of a sender. Later ones are larger, so a receiver knows which of two is the present one."""
    return (time.time_ns() // 1_000_000) << 16 | random.getrandbits(16)


class Metrics:
    """Counters and gauges of one process. No I/O: `reports` makes what is sent.

    Attributes:
        number: how many datagrams were made; each has its own.
        refused: how often a name was not taken because there are NAMES_MAX already.
    """

    def __init__(self, sender: str, instance: int | None = None) -> None:
        self.sender = sender
        self.instance = new_instance() if instance is None else instance
        self.counters: dict[str, int] = {}
        self.gauges: dict[str, float] = {}
        self.number = 0
        self.refused = 0
        head_bytes(sender)  # says now if the name cannot be sent

    def count(self, name: str, by: int = 1) -> None:
        """Count `by` more. Raises: ValueError when it would go down, or for a name that cannot be sent."""
        if by < 0:
            raise ValueError(f"{name} by {by}: a counter only goes up; use a gauge")
        if self._has_room(name, name in self.counters):
            self.counters[name] = self.counters.get(name, 0) + by

    def gauge(self, name: str, value: float) -> None:
        """Say how much there is now. Raises: ValueError for a name that cannot be sent."""
        if self._has_room(name, name in self.gauges):
            self.gauges[name] = value

    def _has_room(self, name: str, is_known: bool) -> bool:
        if is_known:
            return True
        entry_bytes(name)
        if len(self.counters) + len(self.gauges) >= NAMES_MAX:
            self.refused += 1
            return False
        return True

    def parts(self) -> list[Report]:
        """Everything, in as many reports as it takes; their numbers come when they are sent."""
        room = DATAGRAM_MAX_BYTES - head_bytes(self.sender)
        keys = [f"c{name}" for name in self.counters] + [f"g{name}" for name in self.gauges]
        parts = split(((key, entry_bytes(key[1:])) for key in keys), room)
        return [
            Report(
                self.sender,
                self.instance,
                0,
                False,
                {key[1:]: self.counters[key[1:]] for key in part if key[0] == "c"},
                {key[1:]: self.gauges[key[1:]] for key in part if key[0] == "g"},
            )
            for part in parts
        ]

    def datagram(self, part: Report, *, asks: bool = False) -> bytes:
        """One of the `parts`, with the next number."""
        self.number += 1
        return pack(Report(part.sender, part.instance, self.number, asks, part.counters, part.gauges))


class Reporter(asyncio.DatagramProtocol):
    """Sends what a Metrics holds, and hears the answers to its last words."""

    def __init__(self, metrics: Metrics) -> None:
        self.metrics = metrics
        self.errors = 0
        self._transport: asyncio.DatagramTransport | None = None
        self._asked: dict[int, Report] = {}
        self._answered = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def flush(self) -> None:
        """Send everything once."""
        for part in self.metrics.parts():
            self._send(self.metrics.datagram(part))

    async def finish(self, within_s: float = FINISH_S) -> bool:
        """Send everything until all of it is answered; False when `within_s` seconds were not enough.

        Only answers to the last round count. So the last datagram that was sent is one that came, and the receiver knows of every gap.
        """
        left = self.metrics.parts()
        try:
            async with asyncio.timeout(within_s):
                while left:
                    self._answered.clear()
                    self._asked = {}
                    for part in left:
                        datagram = self.metrics.datagram(part, asks=True)
                        self._asked[self.metrics.number] = part
                        self._send(datagram)
                    try:
                        async with asyncio.timeout(ANSWER_S):
                            await self._answered.wait()
                    except TimeoutError:
                        pass  # this round is over; what is not answered goes into the next
                    left = list(self._asked.values())
        except TimeoutError:
            return False
        return True

    def _send(self, datagram: bytes) -> None:
        assert self._transport is not None
        self._transport.sendto(datagram)

    def datagram_received(self, data: bytes, addr: object) -> None:
        try:
            answer = unpack(data)
        except Malformed:
            return
        if isinstance(answer, Answer) and answer.instance == self.metrics.instance:
            self._asked.pop(answer.number, None)
            if not self._asked:
                self._answered.set()

    def error_received(self, exc: Exception) -> None:
        self.errors += 1  # nobody listens just now; the next report may find somebody


@asynccontextmanager
async def sending(address: str, sender: str, *, every_s: float = EVERY_S, insecure: bool = False) -> AsyncGenerator[Metrics, None]:
    """Report a Metrics while the block runs, and once more when it ends; not when it ends by an error."""
    metrics = Metrics(sender)
    transport, reporter = await holdfast.dial(lambda: Reporter(metrics), address, insecure=insecure)

    async def report() -> None:
        while True:
            reporter.flush()
            await asyncio.sleep(every_s)

    reporting = asyncio.create_task(report())
    try:
        yield metrics
        await reporter.finish()
    finally:
        reporting.cancel()
        await asyncio.gather(reporting, return_exceptions=True)
        transport.close()


# --------------------------------------------------------------------------------------------------------------------- a load


async def load(address: str, name: str, steps: int, pause_s: float) -> dict[str, object]:
    """Make orders and report after each; return what the receiver must come to."""
    metrics = Metrics(name)
    transport, reporter = await holdfast.dial(lambda: Reporter(metrics), address)
    try:
        for step in range(steps):
            metrics.count("orders")
            metrics.count("bytes", 100 + step)
            metrics.gauge("queue", float(step % 7))
            reporter.flush()
            await asyncio.sleep(pause_s)
        finished = await reporter.finish()
    finally:
        transport.close()
    return {
        "sender": name,
        "finished": finished,
        "sent": metrics.number,
        "errors": reporter.errors,
        "counters": metrics.counters,
        "gauges": metrics.gauges,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="A load for metrics_receiver.py. Prints what the receiver must come to, as JSON.")
    parser.add_argument("address")
    parser.add_argument("--name", default="load")
    parser.add_argument("--steps", type=int, default=1_000, help="how many reports")
    parser.add_argument("--pause", type=float, default=0.002, metavar="SECONDS", help="between two reports")
    options = parser.parse_args()
    done = asyncio.run(load(options.address, options.name, options.steps, options.pause))
    print(json.dumps(done))
    return 0 if done["finished"] else 1


if __name__ == "__main__":
    sys.exit(main())
