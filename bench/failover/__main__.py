"""Failover: holdfast beside what people use instead, while nodes are killed, frozen, cut off, reset, restarted, slow or broken.

    python -m bench.failover [faults] [slow] [--only holdfast,haproxy] [--phases kill,freeze] [--rate 1350] [--json FILE]

`faults` is the script of faults with three nodes, `slow` the experiment with five; without a word, both. Exit code 1 when holdfast misses
what it promises, or cannot be run; a contender that is not installed is named and left out. Ctrl-C shows what there is; nothing stays
behind. bench/failover/README.md says how to read the tables.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import signal
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.failover import script, slow, tables, work
from bench.failover.accounts import Accounts, Row, read
from bench.failover.children import ChildFailed
from bench.failover.contenders import CONTENDERS, OURS
from bench.failover.scene import Scale, Scene
from bench.failover.script import Phase
from bench.processes import allow_descriptors

RATE = 1350.0
"""With calls of 39 ms on average 52 are in flight, and every contender uses less than two cores."""
DESCRIPTORS = 16_384
REASONS = 6


@dataclass
class Found:
    """Everything that a run has found so far."""

    about: dict[str, Any]
    rows: list[Row] = field(default_factory=list)
    slow: list[slow.Figures] = field(default_factory=list)
    promises: list[tables.Line] = field(default_factory=list)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return it for programs."""
        return json.dumps(asdict(self), indent=1)


def parse(words: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.failover", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="faults, slow [both]")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"contenders, separated by commas [{','.join(CONTENDERS)}]")
    keys = [phase.key for phase in script.WHOLE]
    parser.add_argument("--phases", default="", metavar="KEYS", help=f"of the script; calm is always there [{','.join(keys)}]")
    parser.add_argument("--rate", type=float, default=RATE, help=f"calls a second of all clients in the script [{RATE:.0f}]")
    parser.add_argument("--clients", type=int, default=4, help="client processes of the script [4]")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="for all figures")
    parser.add_argument("--keep", type=pathlib.Path, metavar="FOLDER", help="keep the logs there, a folder for each scene")
    options = parser.parse_args(words)
    options.parts = options.parts or ["faults", "slow"]
    options.only = _chosen(parser, "--only", options.only, list(CONTENDERS))
    options.phases = ["calm", *(key for key in _chosen(parser, "--phases", options.phases, keys) if key != "calm")]
    _chosen(parser, "PART", ",".join(options.parts), ["faults", "slow"])
    if options.clients < 1 or not options.rate > 0:
        parser.error("--clients must be at least 1, and --rate above 0")
    return options


def _chosen(parser: argparse.ArgumentParser, option: str, text: str, known: list[str]) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if unknown := [name for name in names if name not in known]:
        parser.error(f"{option} knows no {', '.join(unknown)}; there are: {', '.join(known)}")
    return [name for name in known if name in names] or known


def main(words: list[str] | None = None) -> int:
    """Run what is asked for, print it, and return the exit code."""
    options = parse(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # no child may outlive us, however we are told to go
    allow_descriptors(DESCRIPTORS)
    scale = Scale(rate=options.rate, clients=options.clients)
    found = Found(about(scale))
    print(heading(found.about, scale if "faults" in options.parts else slow.SCALE), flush=True)
    code = 0
    for name in options.only:
        if (why := CONTENDERS[name].missing()) is not None:
            found.missing[name] = why
            tell(f"left out: {name}: {why}")
    try:
        for name in [name for name in options.only if name not in found.missing]:
            if "faults" in options.parts:
                faults(name, scale, [phase for phase in script.WHOLE if phase.key in options.phases], found, options.keep)
        for name in [name for name in slow.CONTENDERS if name in options.only and name not in found.missing]:
            if "slow" in options.parts:
                slowness(name, found, options.keep)
    except KeyboardInterrupt:
        code = 130
    except ChildFailed as error:
        print(f"failover: {error}", file=sys.stderr)
        code = 1
    found.about["load_after"] = round(os.getloadavg()[0], 2)
    show(found)
    if options.json:
        options.json.write_text(found.to_json())
    missed = any(not line.met for line in found.promises) or any(name in OURS for name in found.missing)
    return code or int(missed)


def faults(name: str, scale: Scale, phases: list[Phase], found: Found, keep: pathlib.Path | None) -> None:
    """Play the script for one contender. Raises: ChildFailed."""
    contender = CONTENDERS[name]
    with Folder(keep, f"faults-{name}") as folder, Scene(contender, folder, scale) as scene:
        tell(f"{name}: {len(phases)} phases, about {script.WARM_S + sum(script.PAUSE_S + phase.seconds for phase in phases):.0f} s")
        stretches = script.run(scene, phases, lambda line: tell(f"{name}: {line}"))
        written = read(map(scene.records_path, range(scale.clients)), [scene.log_path(number) for number in range(scale.nodes)])
    accounts = Accounts(name, written, streams=contender.streams)
    rows = accounts.rows(stretches)
    found.rows += rows
    found.notes[name] = {
        "in_flight": round(accounts.in_flight(stretches[0], scale.clients), 1),
        "cores": stretches[0].cores,
        "reasons": accounts.reasons(),
        "streams_broke": sorted({why for _, why in written.broken}),
        "unlogged": accounts.unlogged(),
    }
    if name in OURS:
        found.promises += tables.promises(name, rows, accounts.unlogged())
    print(tables.of_rows(rows), end="\n\n", file=sys.stderr, flush=True)


def slowness(name: str, found: Found, keep: pathlib.Path | None) -> None:
    """Play the second experiment for one contender. Raises: ChildFailed."""
    with Folder(keep, f"slow-{name}") as folder, Scene(CONTENDERS[name], folder, slow.SCALE) as scene:
        times = slow.run(scene, lambda line: tell(f"{name}: {line}"))
        written = read([scene.records_path(0)], [scene.log_path(number) for number in range(slow.SCALE.nodes)])
    figures = slow.figures(name, written, times)
    found.slow.append(figures)
    if name in OURS:
        found.promises += slow.promises(figures)


class Folder:
    """A folder for a scene's logs: kept where `--keep` says, else for as long as it is needed."""

    def __init__(self, keep: pathlib.Path | None, name: str) -> None:
        self._temporary = None if keep else tempfile.TemporaryDirectory(prefix="failover-")
        self._path = keep / name if keep else pathlib.Path(self._temporary.name)  # type: ignore[union-attr]

    def __enter__(self) -> pathlib.Path:
        self._path.mkdir(parents=True, exist_ok=True)
        for old in self._path.iterdir():
            old.unlink()  # records are appended to: an earlier run's would count
        return self._path

    def __exit__(self, *error: object) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()


# ------------------------------------------------------------------------------------------------------------- what is printed


def tell(line: str) -> None:
    """Say what goes on."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)


def about(scale: Scale) -> dict[str, Any]:
    """Return what belongs to every figure of the run."""
    return {
        "began": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.release()} {platform.machine()}, {os.cpu_count()} cores",
        "load_before": round(os.getloadavg()[0], 2),
        "scale": asdict(scale),
    }


def heading(about: dict[str, Any], scale: Scale) -> str:
    """Return what stands above the tables."""
    return (
        f"failover, {about['began']}, Python {about['python']}, {about['machine']}, load before: {about['load_before']}\n"
        f"{scale.nodes} nodes, {scale.clients} client processes, {scale.streams} streams, {scale.rate:.0f} calls/s of "
        f"{scale.shortest_ms:.0f}–{scale.longest_ms:.0f} ms, {scale.expected_in_flight:.0f} in flight or more; "
        "half of the calls are idempotent\n"
    )


def show(found: Found) -> None:
    """Print everything that was found."""
    if found.rows:
        print(tables.of_rows(found.rows), end="\n\n")
    for name, notes in found.notes.items():
        print(f"{name} ({CONTENDERS[name].note})")
        cores = ", ".join(f"{part} {share}" for part, share in notes["cores"].items())
        print(f"  calm phase: {notes['in_flight']} calls in flight; cores used: {cores}")
        for why, count in notes["reasons"][:REASONS]:
            print(f"  {count:6} × {why[:150]}")
    if found.slow:
        print(
            f"\nOne of {slow.SCALE.nodes} nodes {work.SLOWER} × slower, then one that fails at once; {slow.SCALE.rate:.0f} calls/s of 5 ms"
        )
        print(slow.shown(found.slow))
    for name, why in found.missing.items():
        print(f"left out: {name}: {why}")
    for line in found.promises:
        print(line)
    print(f"load before: {found.about['load_before']}, after: {found.about['load_after']}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
