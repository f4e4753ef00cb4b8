"""A real service in its own process, three client processes, and a real tree of files, with every byte accounted for.

    python examples/demo_transfer.py            about 1,800 files over TCP and again over a Unix socket, and calls beside them; < 60 s
    python examples/demo_transfer.py --quick    a few of each
    python examples/demo_transfer.py --json     the result as one JSON object

Exit 0 only when everything held; otherwise 1, and what differed. The files are those of the Python that runs this: its standard library.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import sysconfig
import tempfile
from asyncio.subprocess import DEVNULL, PIPE, Process
from pathlib import Path
from time import perf_counter

import msgspec
from transfer_client import Progress, Report, Row

HERE = Path(__file__).resolve().parent
FILES_MIN = 1_000
FILES_MAX = 5_000
FILE_MAX_BYTES = 4 * 1024 * 1024
QUICK_FILES = 40
READY_S = 15.0
STOP_S = 10.0
WHOLE_S = 58.0
"""The demo ends within a minute, whatever happens."""

LINE_DECODER = msgspec.json.Decoder(Progress | Report)


class Failure(Exception):
    """The demo cannot go on. The message is for people."""


# ------------------------------------------------------------------------------------------------------------------ files


def list_tree(tree: Path, quick: bool) -> list[str]:
    """The source files in the standard library's folder; on a stripped-down Python with few of them, other files too."""
    sizes = {str(path.relative_to(tree)): path.stat().st_size for path in sorted(tree.rglob("*")) if path.is_file()}
    names = [name for name, size in sizes.items() if size <= FILE_MAX_BYTES and name.isprintable()]
    sources = [name for name in names if is_source(name)]
    chosen = sources if len(sources) > FILES_MIN else [*sources, *(name for name in names if not is_source(name))]
    chosen = chosen[:FILES_MAX]
    return chosen[:: max(1, len(chosen) // QUICK_FILES)][:QUICK_FILES] if quick else chosen


def is_source(name: str) -> bool:
    return name.endswith(".py") and not {"site-packages", "dist-packages"}.intersection(Path(name).parts)


# --------------------------------------------------------------------------------------------------------------- processes


class Server:
    """The service's process: started, waited for until it can be called, and told to stop."""

    def __init__(self, process: Process, errors: Path) -> None:
        self.process = process
        self.addresses: list[str] = []
        self._errors = errors
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, folder: Path) -> "Server":
        errors = folder / "server-errors.txt"
        words = ["-m", "holdfast", "serve", "transfer_service:svc", "--app-dir", str(HERE), "--drain", "5s", "--json"]
        words += ["--bind", "tcp://127.0.0.1:0", "--bind", f"unix://{folder}/s.sock"]
        with errors.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=DEVNULL, stdout=PIPE, stderr=stderr)
        server = cls(process, errors)
        try:
            async with asyncio.timeout(READY_S):
                await server._until_ready()
        except (TimeoutError, Failure) as error:
            await end(process)
            raise Failure(f"the service did not start: {error or f'not ready within {READY_S:.0f} s'}\n{server.said()}") from error
        return server

    async def _until_ready(self) -> None:
        if self.process.stdout is None:
            raise Failure("its output cannot be read")
        while line := await self.process.stdout.readline():
            event = json.loads(line)
            if event.get("event") == "ready":
                self.addresses = event["addresses"]
                self._reader = asyncio.create_task(self._drain(self.process.stdout))
                return
        raise Failure("it ended before it was ready")

    async def _drain(self, stdout: asyncio.StreamReader) -> None:
        """Read on, so that the service never waits for a reader of its log."""
        while await stdout.readline():
            pass

    def address(self, scheme: str) -> str:
        return next(address for address in self.addresses if address.startswith(f"{scheme}://"))

    def said(self) -> str:
        return self._errors.read_text("utf-8", "replace").strip()

    async def stop(self) -> list[str]:
        """SIGTERM, and what was wrong with how it ended."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(STOP_S):
                code = await self.process.wait()
        except TimeoutError:
            await end(self.process)
            return [f"the service did not stop within {STOP_S:.0f} s of SIGTERM"]
        finally:
            if self._reader is not None:
                await self._reader
        if code != 0:
            return [f"the service ended with code {code} after SIGTERM, expected 0: {self.said()}"]
        return []


class Client:
    """One client process and how far it says it is."""

    def __init__(self, name: str, unit: str, words: list[str], errors: Path) -> None:
        self.name = name
        self.unit = unit
        self.words = words
        self.errors = errors
        self.progress = Progress(0, 0, 0)
        self.report: Report | None = None

    async def run(self) -> None:
        """Cancel: the process is ended."""
        with self.errors.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(sys.executable, *self.words, stdin=DEVNULL, stdout=PIPE, stderr=stderr)
        try:
            if process.stdout is not None:
                await self._follow(process.stdout)
            await process.wait()
        finally:
            await end(process)
        if self.report is None:
            errors = self.errors.read_text("utf-8", "replace").strip()
            self.report = Report([], [f"{self.name}: the process ended with code {process.returncode} and no report: {errors}"])

    async def _follow(self, stdout: asyncio.StreamReader) -> None:
        while line := await stdout.readline():
            said = LINE_DECODER.decode(line)
            if isinstance(said, Report):
                self.report = said
            else:
                self.progress = said

    def line(self) -> str:
        if not self.progress.of:
            return f"{self.name}: starting"
        size = f" {self.progress.size / 1e6:,.1f} MB" if self.progress.size else ""
        return f"{self.name} {self.progress.done:,}/{self.progress.of:,} {self.unit}{size}"


async def end(process: Process) -> None:
    """Make sure that a process we started is gone."""
    if process.returncode is None:
        process.kill()
        await process.wait()


def make_clients(server: Server, folder: Path, options: argparse.Namespace) -> list[Client]:
    """One that talks and two that upload."""
    tree = Path(sysconfig.get_path("stdlib"))
    listing = folder / "files.txt"
    listing.write_text("\n".join(list_tree(tree, options.quick)), "utf-8")
    script = str(HERE / "transfer_client.py")
    quick = ["--quick"] if options.quick else []
    clients = [Client("calls and streams", "calls", [script, "talk", server.address("tcp"), *quick], folder / "talk-errors.txt")]
    for scheme, label in (("tcp", "TCP"), ("unix", "Unix socket")):
        words = [script, "upload", server.address(scheme), "--batch", f"upload over {label}", "--tree", str(tree), "--list", str(listing)]
        if options.corrupt and scheme == "tcp":
            words.append("--corrupt")
        clients.append(Client(label, "files", words, folder / f"{scheme}-errors.txt"))
    return clients


# ---------------------------------------------------------------------------------------------------------------- the run


class Outcome(msgspec.Struct):
    """What `--json` prints."""

    ok: bool
    seconds: float
    rows: list[Row]
    failures: list[str]


async def run(options: argparse.Namespace) -> Outcome:
    """All of it, in a folder that is gone afterwards."""
    started_at = perf_counter()
    rows: list[Row] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="holdfast-") as name:
        folder = Path(name)
        server = await Server.start(folder)
        tell(options, f"service   pid {server.process.pid}, {', '.join(server.addresses)}")
        clients = make_clients(server, folder, options)
        try:
            async with asyncio.timeout(WHOLE_S - STOP_S - (perf_counter() - started_at)):
                await drive(clients, options, started_at)
        except TimeoutError:
            failures.append(f"not done within {WHOLE_S - STOP_S:.0f} s: {' · '.join(client.line() for client in clients)}")
        finally:
            failures += await server.stop()
    for client in clients:
        rows += client.report.rows if client.report else []
        failures += client.report.failures if client.report else []
    failures += compare(rows, options.quick)
    return Outcome(not failures, perf_counter() - started_at, rows, failures)


async def drive(clients: list[Client], options: argparse.Namespace, started_at: float) -> None:
    """Run the clients side by side and show how far they are."""
    async with asyncio.TaskGroup() as group:
        shown = group.create_task(show(clients, options, started_at))
        runs = [group.create_task(client.run()) for client in clients]
        await asyncio.wait(runs)
        shown.cancel()


def compare(rows: list[Row], quick: bool) -> list[str]:
    """What must hold over all parts together."""
    uploads = [row for row in rows if row.files]
    failures: list[str] = []
    if len(uploads) != 2 or len({(row.files, row.size, row.digest) for row in uploads}) != 1:
        sides = "; ".join(f"{row.what}: {row.files:,} files, {row.size:,} bytes, digest {row.digest}" for row in uploads)
        failures.append(f"the same tree did not arrive over TCP and over the Unix socket: {sides or 'nothing arrived'}")
    if not quick and any(row.files <= FILES_MIN for row in uploads):
        failures.append(f"this Python's standard library has only {uploads[0].files:,} files; the demo wants more than {FILES_MIN:,}")
    return failures


# --------------------------------------------------------------------------------------------------------------- to people


def tell(options: argparse.Namespace, text: str) -> None:
    if not options.json:
        print(text, flush=True)


async def show(clients: list[Client], options: argparse.Namespace, started_at: float) -> None:
    """A line that is written again on a terminal, and one a second elsewhere.

    Cancel: the line is written a last time, so that what stands there is how it ended.
    """
    live = sys.stdout.isatty()
    if options.json:
        return

    def line() -> str:
        return f"{perf_counter() - started_at:5.1f} s   {' · '.join(client.line() for client in clients)}"

    def write() -> None:
        if live:
            width = os.get_terminal_size().columns - 1
            print(f"\r\x1b[K{line()[:width]}", end="", flush=True)
        else:
            print(line(), flush=True)

    try:
        while True:
            await asyncio.sleep(0.1 if live else 1.0)
            write()
    finally:
        write()
        if live:
            print(flush=True)


def table(outcome: Outcome) -> str:
    """What moved, and how fast."""
    head = ("", "calls", "items", "files", "bytes", "seconds", "calls/s", "items/s", "MB/s")
    lines = [head, *(cells(row) for row in outcome.rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]

    def padded(line: tuple[str, ...]) -> str:
        return "  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))])

    return "\n".join(padded(line) for line in lines)


def cells(row: Row) -> tuple[str, ...]:
    seconds = row.seconds or 1e-9

    def number(value: float, form: str = ",.0f") -> str:
        return format(value, form) if value else "–"

    counts = (number(row.calls), number(row.items), number(row.files), number(row.size), f"{row.seconds:.2f}")
    return (row.what, *counts, number(row.calls / seconds), number(row.items / seconds), number(row.size / seconds / 1e6, ",.1f"))


def closing(outcome: Outcome) -> str:
    """The last line, or what differed."""
    if outcome.failures:
        return "FAILED\n" + "\n".join(f"  {failure}" for failure in outcome.failures)
    uploads = [row for row in outcome.rows if row.files]
    files, size = sum(row.files for row in uploads), sum(row.size for row in uploads)
    return (
        f"Every byte arrived: {files:,} files, {size:,} bytes, each file with the same blake2b digest on both sides.\n"
        f"The tree's digest is {uploads[0].digest}, over TCP and over the Unix socket.\n"
        f"Every answer was right, every stream whole and in order; the service stopped cleanly on SIGTERM. {outcome.seconds:.1f} s in all."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few files and calls: a few seconds")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    parser.add_argument("--corrupt", action="store_true", help=argparse.SUPPRESS)  # one byte changes on its way: the checks must find it
    options = parser.parse_args()
    try:
        outcome = asyncio.run(run(options))
    except Failure as failure:
        print(f"demo: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    if options.json:
        print(msgspec.json.encode(outcome).decode())
    else:
        print(f"\n{table(outcome)}\n\n{closing(outcome)}")
    return 0 if outcome.ok else 1


if __name__ == "__main__":
    sys.exit(main())
