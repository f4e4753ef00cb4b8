"""Make every mistake once, and see what notices it.

    python -m tests.sim.mutants [NAME ...] [--seeds N] [--slices S] [--units] [--json]

Runs the spine campaign against each mutant, up to N worlds in each of S slices of seeds; with --units also the quick tests without
tests/sim. Writes table.json and README.md beside this file. Exits 1 when a mutant that the table says is caught was not.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from typing import Any

from . import table
from .patching import Mutant, all_mutants
from .trial import SLICE, Workshop, workshop


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.sim.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants; without a name all")
    parser.add_argument("--seeds", type=int, default=500, help="how many worlds a slice has at most")
    parser.add_argument("--slices", type=int, default=3, help="how many slices")
    parser.add_argument("--units", action="store_true", help="run the quick tests, too; minutes for each mutant they do not notice")
    parser.add_argument("--no-sim", action="store_true", help="do not run the campaign")
    parser.add_argument("--json", action="store_true", help="one JSON object a mutant on stdout")
    asked = parser.parse_args()
    mutants = all_mutants()
    unknown = [name for name in asked.names if name not in mutants]
    if unknown:
        parser.error(f"no such mutant: {', '.join(unknown)}; there are {', '.join(mutants)}")
    rows, lost = table.load(), 0
    with workshop() as shop:
        for name in asked.names or mutants:
            before = rows.get(name, {})
            row = dict(before)
            if not asked.no_sim:
                row |= simulated(shop, mutants[name], asked.seeds, asked.slices)
                lost += table.caught(before) and not table.caught(row)
            if asked.units:
                failed = shop.units(mutants[name])
                row["tests"] = failed or "green"
            rows[name] = row
            table.save(rows, mutants)
            print(json.dumps({"name": name, **row}) if asked.json else told(name, row), flush=True)
    return 1 if lost else 0


def simulated(shop: Workshop, mutant: Mutant, seeds: int, slices: int) -> dict[str, Any]:
    """Run the campaign in every slice; one is enough for a mutant that it does not catch."""
    found = [shop.simulate(mutant, 0, seeds)]
    if found[0] is not None:
        found += [shop.simulate(mutant, number * SLICE, seeds) for number in range(1, slices)]
    hits = [each for each in found if each is not None]
    row: dict[str, Any] = {"invariant": None, "seeds": [], "worlds": [seeds if each is None else each.worlds for each in found]}
    if hits:
        row["invariant"] = Counter(each.invariant for each in hits).most_common(1)[0][0]
        row["seeds"] = [each.seed for each in hits]
        row["message"] = hits[0].message.splitlines()[0][:300]
    return row


def told(name: str, row: dict[str, Any]) -> str:
    """One line about a mutant."""
    by = f"{row['invariant']} at seeds {row['seeds']}" if table.caught(row) else "not caught"
    return f"{name:34} {by}; tests: {row.get('tests', 'not run')}"


if __name__ == "__main__":
    sys.exit(main())
