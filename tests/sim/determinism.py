"""The same seed, the same world: many seeds, run twice, in processes that could not differ more.

    python -m tests.sim.determinism [--seeds 10000] [--pythons .venv/3.12/bin/python,.venv/3.13/bin/python] [--worlds stdlib,spine]

Runs every seed in four processes: twice with the same hash seed, once with another one, once with one that chance picks; and worlds that
use nothing but the standard library (five services under faults) once with each other Python as well. One line per block of seeds; exit
code 1 names the first seed whose digests differ. Half an hour for 10,000 seeds of both kinds on two cores.
What may never happen here: a difference that is not named, or a process that ran fewer seeds than the others.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from holdfast.sim import Case

BLOCK = 250
HASH_SEEDS = ("0", "0", "1", "random")


def digests(kind: str, first: int, count: int) -> Iterator[str]:
    """The digest of each seed's world."""
    for seed in range(first, first + count):
        if kind == "spine":
            from tests.sim.spine.campaign import spine

            yield spine.run(Case(seed=seed)).digest
        else:
            from tests.sim.planted import MENDED

            yield MENDED[seed % len(MENDED)].run(Case(seed=seed)).digest


def elsewhere(python: str, hash_seed: str, kind: str, first: int, count: int) -> list[str]:
    """The same, in a process of its own."""
    command = [python, "-m", "tests.sim.determinism", "--child", kind, "--first", str(first), "--seeds", str(count)]
    said = subprocess.run(command, env={**os.environ, "PYTHONHASHSEED": hash_seed}, capture_output=True, text=True, check=True)
    found = said.stdout.split()
    if len(found) != count:
        raise SystemExit(f"{' '.join(command)} gave {len(found)} digests: {said.stderr[-500:]}")
    return found


def compare(kind: str, first: int, count: int, pythons: list[str], workers: int) -> tuple[int, str] | None:
    """Run one block everywhere. Returns the first seed that differs and where, or None."""
    places = [(sys.executable, hash_seed) for hash_seed in HASH_SEEDS]
    if kind == "stdlib":
        places += [(python, "random") for python in pythons]
    with ThreadPoolExecutor(workers) as pool:
        all_found = list(pool.map(lambda place: elsewhere(*place, kind, first, count), places))
    for place, found in zip(places[1:], all_found[1:], strict=True):
        for offset, (ours, theirs) in enumerate(zip(all_found[0], found, strict=True)):
            if ours != theirs:
                return first + offset, f"{place[0]} with PYTHONHASHSEED={place[1]}: {theirs}, first run: {ours}"
    return None


def main() -> int:
    """Run what was asked for. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10_000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--worlds", default="stdlib,spine")
    parser.add_argument("--pythons", default="", help="others that run the worlds of the standard library")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        for digest in digests(asked.child, asked.first, asked.seeds):
            print(digest)
        return 0
    pythons = [python for python in asked.pythons.split(",") if python]
    for kind in asked.worlds.split(","):
        began = time.monotonic()
        for first in range(asked.first, asked.first + asked.seeds, BLOCK):
            count = min(BLOCK, asked.first + asked.seeds - first)
            different = compare(kind, first, count, pythons, asked.workers)
            if different is not None:
                print(f"{kind}: seed {different[0]} differs: {different[1]}")
                return 1
            done = first + count - asked.first
            print(f"{kind}: {done:,} of {asked.seeds:,} seeds agree, {time.monotonic() - began:,.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
