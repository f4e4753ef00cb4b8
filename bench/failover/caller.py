"""One client process: calls at a steady rate, whatever becomes of the calls before, and holds streams open.

    python -m bench.failover.caller SPEC

SPEC is JSON, see `Spec`. It says `{"event": "ready"}` when it could call, begins at the time that stdin names, ends when stdin does, and
writes down everything that happens, once a second, a line each:

    c NUMBER PLANNED LATENCY OUTCOME [WHY]     a call: when it was due, and how long after that its end was known, in seconds
    s AT WHY                                   a stream broke; another one is opened in its place
    f AT COUNT                                 so many calls were in flight

What may never happen here: a call that is sent later because another one takes long (its latency counts from when it was due); a call of
which nothing is written down.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import pathlib
import sys
import time
from dataclasses import asdict, dataclass

import uvloop

from bench.failover.contenders import CONTENDERS, DEADLINE_S, Link, Outcome
from bench.failover.work import may_run_twice

WRITE_EACH_S = 1.0
SILENT_MAX_S = 10.0
"""A stream that gives nothing for so long is broken: longer than any fault, so that one which survives a fault counts as whole."""
REOPEN_AFTER_S = 0.1
IN_FLIGHT_MAX = 4000
"""Of one client, two hundred times what it needs: a contender that gets there has collapsed, and its next calls have failed."""
LAST_CALLS_S = DEADLINE_S + 5.0


@dataclass(frozen=True)
class Spec:
    """What a client process is told."""

    contender: str
    ports: list[int]
    number: int
    """Which client this is: its calls' numbers begin with it."""
    behind_s: float
    """How much later than the first client's its calls are due, so that all clients' calls together are evenly spaced."""
    rate: float
    streams: int
    records: str

    def to_json(self) -> str:
        """Return it for a command line."""
        return json.dumps(asdict(self))


class Records:
    """What happened, until it is written."""

    def __init__(self, path: str) -> None:
        self._path = pathlib.Path(path)
        self._lines: list[str] = []
        self.in_flight = 0

    def call(self, call_id: int, planned_at: float, outcome: Outcome, why: str) -> None:
        """Note how a call ended."""
        self._lines.append(f"c {call_id} {planned_at:.4f} {time.monotonic() - planned_at:.5f} {outcome} {' '.join(why.split())}")

    def stream(self, why: str) -> None:
        """Note that a stream broke."""
        self._lines.append(f"s {time.monotonic():.4f} {' '.join(why.split())}")

    def write(self) -> None:
        """Write down what there is."""
        self._lines.append(f"f {time.monotonic():.4f} {self.in_flight}")
        with self._path.open("a", encoding="utf-8") as file:
            file.write("\n".join(self._lines) + "\n")
        self._lines.clear()


async def one(link: Link, call_id: int, planned_at: float, records: Records) -> None:
    """Make a call and note it. Cancel: notes that nobody knows."""
    outcome: Outcome = "unknown"
    why = "given up at the end of the run"
    records.in_flight += 1
    try:
        outcome, why = await link.call(call_id, may_run_twice(call_id))
    except Exception as error:  # whatever a library lets out is an outcome too, and the caller knows nothing
        why = f"unforeseen: {error!r}"
    finally:
        records.in_flight -= 1
        records.call(call_id, planned_at, outcome, why)


async def pour(link: Link, spec: Spec, begins_at: float, records: Records, calls: set[asyncio.Task[None]]) -> None:
    """Send every call when it is due. Cancel: sends no more."""
    sequence = 0
    while True:
        planned_at = begins_at + spec.behind_s + sequence / spec.rate
        await asyncio.sleep(max(0.0, planned_at - time.monotonic()))
        call_id = (spec.number << 32) + sequence
        sequence += 1
        if len(calls) >= IN_FLIGHT_MAX:
            records.call(call_id, planned_at, "not_executed", f"not sent: {IN_FLIGHT_MAX} calls of this client are in flight")
            continue
        task = asyncio.create_task(one(link, call_id, planned_at, records))
        calls.add(task)
        task.add_done_callback(calls.discard)


async def watch(link: Link, number: int, records: Records) -> None:
    """Keep a stream open, and note each time that it breaks. Cancel: closes it."""
    while True:
        why = "it ended"
        try:
            async with contextlib.aclosing(link.ticks(number)) as items:
                while True:
                    async with asyncio.timeout(SILENT_MAX_S):
                        await anext(items)
        except StopAsyncIteration:
            pass
        except Exception as error:  # whatever it is, the stream is broken
            why = repr(error)
        records.stream(why)
        await asyncio.sleep(REOPEN_AFTER_S)


async def write(records: Records) -> None:
    """Write down what happened, once a second. Cancel: stops."""
    while True:
        await asyncio.sleep(WRITE_EACH_S)
        records.write()


async def run(spec: Spec) -> None:
    """Be the client. Cancel: stops it."""
    about = CONTENDERS[spec.contender]
    loop = asyncio.get_running_loop()
    link: Link = await importlib.import_module(about.module).connect(spec.ports, about.variant)
    await link.ready()
    print(json.dumps({"event": "ready"}), flush=True)
    begins_at = float(await loop.run_in_executor(None, sys.stdin.readline))
    records = Records(spec.records)
    calls: set[asyncio.Task[None]] = set()
    steady = [asyncio.create_task(write(records)), asyncio.create_task(pour(link, spec, begins_at, records, calls))]
    steady += [asyncio.create_task(watch(link, number, records)) for number in range(spec.streams if about.streams else 0)]
    await loop.run_in_executor(None, sys.stdin.readline)
    for task in steady:
        task.cancel()
    ended = await asyncio.gather(*steady, return_exceptions=True)
    if calls:
        await asyncio.wait(calls, timeout=LAST_CALLS_S)
    left = list(calls)
    for call in left:
        call.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    records.write()
    await link.close()
    if wrong := [each for each in ended if isinstance(each, Exception)]:
        raise ExceptionGroup("the client itself failed", wrong)


def main() -> None:
    """Be the client that the command line describes."""
    uvloop.run(run(Spec(**json.loads(sys.argv[1]))))


if __name__ == "__main__":
    main()
