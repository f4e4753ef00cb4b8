"""Many runs of one harness over many hours, in parts that can be counted: stop it at any time, and start it again to go on.

The work is cut into blocks. A block is one seed and so many executions, so the same block always runs the same inputs; each process takes
every n-th. What is done stands in a JSON file that is replaced as a whole.

What counts as slow: an input that takes more than 10 ms of the processor's time, and does so again each of three times alone.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
from pathlib import Path
from typing import Any

from tests.fuzz import engine

BLOCK = 5000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `python -m tests.fuzz campaign` takes."""
    parser.add_argument("--executions", type=int, default=10_000_000)
    parser.add_argument("--out", type=Path, required=True, help="the summary; if it is there, the campaign goes on from it")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--name", choices=engine.NAMES, default="connection")
    parser.add_argument("--seed", default="campaign")
    parser.add_argument("--block", type=int, default=BLOCK, help="executions between two writes of the summary")


def block(name: str, seed: str, number: int, size: int) -> dict[str, Any]:
    """Run one block and say what came of it."""
    harness = engine.harness(name)
    watch = engine.Watch(harness)
    engine.wander(harness, f"{seed}/{number}", lambda done: done >= size, watch)
    return {
        "executions": watch.executions,
        "slowest_s": watch.slowest_s,
        "slowest": watch.slowest.hex(),
        "slow": [each.hex() for each in watch.slow],
        "found": watch.complaints(),
    }


def _work(task: tuple[str, str, int, int]) -> tuple[int, dict[str, Any]]:
    return task[2], block(*task)


def run(asked: argparse.Namespace) -> int:
    """Run or go on with a campaign. Return 1 when it found something."""
    summary = _begun(asked)
    done: set[int] = set(summary.pop("blocks"))
    wanted = range(-(-asked.executions // asked.block))
    todo = [(asked.name, asked.seed, number, asked.block) for number in wanted if number not in done]
    # spawn: a child begins without what this process imported
    with multiprocessing.get_context("spawn").Pool(asked.processes) as pool:
        for number, found in pool.imap_unordered(_work, todo):
            done.add(number)
            add(summary, found)
            _write(asked.out, {**summary, "blocks": sorted(done)})
            if len(done) % 20 == 0:
                print(
                    f"{summary['executions']:>12} executions, {summary['exceptions']} exceptions, slowest {summary['slowest_ms']:.3f} ms",
                    flush=True,
                )
    print(json.dumps({key: value for key, value in summary.items() if key != "slowest"}, indent=2))
    return 1 if summary["exceptions"] or summary["slow"] else 0


def _begun(asked: argparse.Namespace) -> dict[str, Any]:
    same = {"name": asked.name, "seed": asked.seed, "block": asked.block}
    if asked.out.exists():
        summary: dict[str, Any] = json.loads(asked.out.read_text("utf-8"))
        if {key: summary[key] for key in same} != same:
            raise SystemExit(f"{asked.out} is of another campaign ({ {key: summary[key] for key in same} }); give another --out")
        return summary
    python = f"{platform.python_implementation()} {platform.python_version()}"
    start = {"executions": 0, "exceptions": 0, "slowest_ms": 0.0, "slowest": "", "slow": [], "found": [], "blocks": []}
    return {**same, "python": python, "processes": asked.processes, **start}


def add(summary: dict[str, Any], found: dict[str, Any]) -> None:
    """Add what came of a block."""
    summary["executions"] += found["executions"]
    summary["exceptions"] += len(found["found"]) - len(found["slow"][:3])
    summary["slow"] += found["slow"]
    summary["found"] += found["found"]
    if found["slowest_s"] * 1000 > summary["slowest_ms"]:
        summary["slowest_ms"], summary["slowest"] = found["slowest_s"] * 1000, found["slowest"]


def _write(path: Path, summary: dict[str, Any]) -> None:
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(summary), "utf-8")
    os.replace(beside, path)
