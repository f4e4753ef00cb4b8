"""One client process of the demo: does its part, says on stdout how far it is, and ends with a report. `demo_transfer.py` starts it.

Each line on stdout is a JSON object, a Progress or the closing Report. Whatever does not hold goes into `Report.failures`, in words.
"""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator, Coroutine, Iterable
from itertools import count
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
from transfer_api import (
    CHUNK_BYTES,
    Basket,
    FileInfo,
    Item,
    Quote,
    Receipt,
    Sum,
    Tick,
    Total,
    Transfer,
    file_digest,
    next_check,
    tree_digest,
)

import holdfast

AT_ONCE = 8
REPORT_EVERY_S = 0.1
FAILURES_MAX = 20


class Row(msgspec.Struct):
    """One line of the closing table. `size` is bytes of files; items are what streams carried, one by one."""

    what: str
    calls: int = 0
    items: int = 0
    files: int = 0
    size: int = 0
    seconds: float = 0.0
    digest: str = ""


class Progress(msgspec.Struct, tag="progress"):
    done: int
    of: int
    size: int


class Report(msgspec.Struct, tag="report"):
    rows: list[Row]
    failures: list[str]


class Reporter:
    """Collects rows and failures, and says on stdout how far the part is, at most every REPORT_EVERY_S."""

    def __init__(self, of: int) -> None:
        self.of = of
        self.done = 0
        self.size = 0
        self.rows: list[Row] = []
        self.failures: list[str] = []
        self._said_at = 0.0

    def step(self, size: int = 0) -> None:
        self.done += 1
        self.size += size
        if perf_counter() - self._said_at >= REPORT_EVERY_S or self.done == self.of:
            self._said_at = perf_counter()
            say(Progress(self.done, self.of, self.size))

    def check(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.failures.append(otherwise)

    def report(self) -> Report:
        shown = self.failures[:FAILURES_MAX]
        if len(self.failures) > FAILURES_MAX:
            shown.append(f"and {len(self.failures) - FAILURES_MAX:,} more")
        return Report(self.rows, shown)


def say(line: Progress | Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(line) + b"\n")
    sys.stdout.buffer.flush()


# ------------------------------------------------------------------------------------------------- calls, streams, duplex


class Size(msgspec.Struct):
    """How much the part `talk` does."""

    calls: int
    streams: int
    ticks: int
    duplex: int
    numbers: int


FULL = Size(calls=40_000, streams=40, ticks=5_000, duplex=20, numbers=500)
QUICK = Size(calls=300, streams=4, ticks=200, duplex=2, numbers=50)


async def talk(client: holdfast.Client, size: Size, reporter: Reporter) -> None:
    """Typed calls, server streams and duplex streams, one kind after the other."""
    reporter.rows.append(await typed_calls(client.bind(Transfer), size, reporter))
    reporter.rows.append(await server_streams(client, size, reporter))
    reporter.rows.append(await duplex_streams(client, size, reporter))


def basket(number: int) -> Basket:
    return Basket(f"customer {number}", [Item(f"sku-{n}", n + 1, number % 97) for n in range(3)])


async def typed_calls(transfer: Transfer, size: Size, reporter: Reporter) -> Row:
    started_at = perf_counter()
    todo = iter(range(size.calls))

    async def worker() -> None:
        for number in todo:
            got = await transfer.quote(basket(number))
            expected = Quote(f"customer {number}", 6, 6 * (number % 97))
            reporter.check(got == expected, f"quote {number}: expected {expected}, got {got}")
            reporter.step()

    await all_of(worker() for _ in range(AT_ONCE))
    return Row("typed calls", calls=size.calls, seconds=perf_counter() - started_at)


async def server_streams(client: holdfast.Client, size: Size, reporter: Reporter) -> Row:
    started_at = perf_counter()

    async def one(first: int) -> None:
        check, number = 0, first
        async with client.stream("transfer.ticks", first, size.ticks, returns=Tick) as ticks:
            async for tick in ticks:
                check = next_check(check, number)
                if tick != Tick(number, check):
                    reporter.failures.append(f"stream from {first}: expected {Tick(number, check)}, got {tick}")
                    break
                number += 1
        reporter.check(number == first + size.ticks, f"stream from {first}: {number - first:,} items of {size.ticks:,} came")
        reporter.step()

    await all_of(one(n * 1_000) for n in range(size.streams))
    return Row("server streams", calls=size.streams, items=size.streams * size.ticks, seconds=perf_counter() - started_at)


async def duplex_streams(client: holdfast.Client, size: Size, reporter: Reporter) -> Row:
    """Each number goes out only when the answer to the last one is here: both directions are open at the same time, or it stands still."""
    started_at = perf_counter()

    async def one(name: int) -> None:
        answered = asyncio.Semaphore(1)

        async def numbers() -> AsyncIterator[int]:
            for number in range(size.numbers):
                await answered.acquire()
                yield number

        got: list[Sum] = []
        async with client.stream("transfer.sums", numbers=numbers(), returns=Sum) as sums:
            async for each in sums:
                got.append(each)
                answered.release()
        expected = [Sum(n, n * (n + 1) // 2) for n in range(size.numbers)]
        reporter.check(got == expected, f"duplex {name}: {len(got):,} answers to {size.numbers:,} numbers; the last is {got[-1:]}")
        reporter.step()

    await all_of(one(n) for n in range(size.duplex))
    items = 2 * size.duplex * size.numbers
    return Row("duplex streams", calls=size.duplex, items=items, seconds=perf_counter() - started_at)


# ------------------------------------------------------------------------------------------------------------------ files


async def upload(client: holdfast.Client, batch: str, tree: Path, names: list[str], reporter: Reporter, *, corrupt: bool) -> None:
    """Every file of the list as a client stream, a few at a time; then the tree as a whole, as the far end knows it."""
    transfer = client.using(deadline=30.0).bind(Transfer)
    started_at = perf_counter()
    digests: dict[str, str] = {}
    todo = zip(count(), names, strict=False)

    async def worker() -> None:
        for number, name in todo:
            data = (tree / name).read_bytes()
            file = FileInfo(batch, name, len(data), file_digest(data))
            digests[name] = file.digest
            sent = flipped(data) if corrupt and number == len(names) // 2 else data
            receipt = await transfer.upload(file, chunks(sent))
            same = receipt.matches and (receipt.size, receipt.digest) == (file.size, file.digest)
            reporter.check(same, f"{batch}: {name}: sent {told(file)}; received {told(receipt)}")
            reporter.step(file.size)

    await all_of(worker() for _ in range(AT_ONCE))
    seconds = perf_counter() - started_at
    ours = Total(len(names), reporter.size, tree_digest(digests))
    theirs = await transfer.total(batch)
    reporter.check(ours == theirs, f"{batch}: the whole tree: sent {told(ours)}; received {told(theirs)}")
    reporter.rows.append(Row(batch, len(names) + 1, 0, theirs.files, theirs.size, seconds, theirs.digest))


def told(side: FileInfo | Receipt | Total) -> str:
    files = f"{side.files:,} files, " if isinstance(side, Total) else ""
    return f"{files}{side.size:,} bytes, digest {side.digest}"


async def chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def flipped(data: bytes) -> bytes:
    """The same with one bit of its middle byte turned round: what the checks must find."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else b"\x01"


# ------------------------------------------------------------------------------------------------------------------- main


async def all_of(parts: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Run them side by side; the first error ends all."""
    async with asyncio.TaskGroup() as group:
        for part in parts:
            group.create_task(part)


async def run(options: argparse.Namespace) -> Report:
    """Do the part. An error ends it, and is a failure like any other."""
    size = QUICK if options.quick else FULL
    names: list[str] = options.list.read_text("utf-8").splitlines() if options.list else []
    reporter = Reporter(of=len(names) or size.calls + size.streams + size.duplex)
    try:
        async with holdfast.connect(options.address) as client:
            if options.part == "talk":
                await talk(client, size, reporter)
            else:
                await upload(client, options.batch, options.tree, names, reporter, corrupt=options.corrupt)
    except* (holdfast.HoldfastError, OSError) as group:
        reporter.failures.extend(f"{options.batch}: {type(error).__name__}: {error}" for error in group.exceptions)
    return reporter.report()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("part", choices=["talk", "upload"])
    parser.add_argument("address")
    parser.add_argument("--batch", default="talk", help="what this part is called in the report")
    parser.add_argument("--tree", type=Path, help="the folder the files are in")
    parser.add_argument("--list", type=Path, help="a file with the names to upload, one a line, relative to the folder")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--corrupt", action="store_true", help=argparse.SUPPRESS)
    report = asyncio.run(run(parser.parse_args()))
    say(report)
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
