"""The command line of a campaign: which worlds, in how many processes, and what came of them.

Owns: the words and the report. What may never happen here: a campaign's own business.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from typing import Any

from holdfast.sim import Case, Interrupted, Scenario, explore


def parser_of(name: str, story: str) -> argparse.ArgumentParser:
    """The words that every campaign understands; `name` is its package below `tests.sim`."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.sim.{name}", description=story)
    parser.add_argument("--seeds", type=int, default=200, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--workers", type=int, default=1, help="processes that run them")
    parser.add_argument("--all", action="store_true", help="go on after a failure")
    parser.add_argument("--shrink", action="store_true", help="make the first failure of each kind small")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def run(campaign: Scenario, asked: argparse.Namespace) -> int:
    """Run what was asked for. Returns the exit code."""
    if asked.workers == 1:
        return alone(campaign, asked)
    try:
        report = explore(
            campaign, seeds=asked.seeds, first=asked.first, stop_at_first=not asked.all, shrinking=asked.shrink, workers=asked.workers
        )
    except Interrupted as stopped:  # Ctrl-C: what was found until then
        report = stopped.report
    return tell(
        asked, [(each.failure.signature, each.seeds, each.failure.message) for each in report.found], report.seeds, report.sometimes
    )


def alone(campaign: Scenario, asked: argparse.Namespace) -> int:
    """In this process, without the run-twice check: the quickest way to a failure."""
    found: dict[str, tuple[list[int], str]] = {}
    points: Counter[str] = Counter()
    done = 0
    for seed in range(asked.first, asked.first + asked.seeds):
        outcome = campaign.run(Case(seed=seed))
        done += 1
        points.update(dict.fromkeys(outcome.sometimes, 1))
        if outcome.failure is not None:
            found.setdefault(outcome.failure.signature, ([], outcome.failure.message))[0].append(seed)
            if not asked.all:
                break
    return tell(asked, [(name, tuple(seeds), text) for name, (seeds, text) in found.items()], done, dict(points))


def tell(asked: argparse.Namespace, found: list[tuple[str, tuple[int, ...], str]], worlds: int, points: dict[str, int]) -> int:
    """Say what came of it."""
    if asked.json:
        failures: list[dict[str, Any]] = [
            {"invariant": name, "seed": seeds[0], "seeds": seeds, "message": text} for name, seeds, text in found
        ]
        print(json.dumps({"worlds": worlds, "ok": not found, "failures": failures, "sometimes": points}))
    else:
        print(f"{worlds} worlds, {'all is well' if not found else f'{len(found)} ways to fail'}")
        for name, seeds, text in found:
            print(f"FAIL {name}: seed {seeds[0]}, {len(seeds)} of {worlds} worlds\n  {text.splitlines()[0]}")
    return 1 if found else 0
