"""What is known of each mutant: `table.json`, and the same for people in `README.md`.

Owns: the two files. What may never happen here: a row about a mutant that is not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from .patching import Mutant

TABLE = Path(__file__).with_name("table.json")
README = Path(__file__).with_name("README.md")

HEAD = """# Mutants

Mistakes as somebody would make them in holdfast's protocol, session and deadline code, and (`fleet_…`) in its policies and balancing, each
at most five lines, kept as patches in `patches/`. The simulation must find them. `make mutants` makes them one by one in a copy of the
sources, runs the spine campaign, or the fleet campaign, and the quick tests against it, and writes this page and `table.json`. A patch that
no longer applies fails the build.

`worlds` is how many worlds of the campaign it took, the median of several slices of seeds that have nothing in common. `tests` says
whether the quick tests without `tests/sim` notice: green means that they do not, and the simulation stands alone.

"""


def load() -> dict[str, dict[str, Any]]:
    """Return the rows by the name of the mutant."""
    rows: dict[str, dict[str, Any]] = json.loads(TABLE.read_text("utf-8")) if TABLE.exists() else {}
    return rows


def caught(row: Mapping[str, Any]) -> bool:
    """Whether the simulation noticed, in the greater part of the slices it was given."""
    return row.get("invariant") is not None


def alone(row: Mapping[str, Any]) -> bool:
    """Whether the simulation alone noticed."""
    return caught(row) and row.get("tests") == "green"


def median_worlds(row: Mapping[str, Any]) -> int:
    """How many worlds it took, or would take at least."""
    return int(median(row["worlds"]))


def save(rows: Mapping[str, Mapping[str, Any]], mutants: Mapping[str, Mutant]) -> None:
    """Write both files, with a row for each mutant that exists."""
    kept = {name: rows[name] for name in mutants if name in rows}
    TABLE.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")
    README.write_text(HEAD + page(kept, mutants), "utf-8")


def page(rows: Mapping[str, Mapping[str, Any]], mutants: Mapping[str, Mutant]) -> str:
    """Return the table in words."""
    found = [row for row in rows.values() if caught(row)]
    by_alone = [row for row in rows.values() if alone(row)]
    said = f"{len(rows)} mutants; the simulation catches {len(found)}, and {len(by_alone)} of these leave every quick test green.\n\n"
    lines = ["| mutant | what it breaks | tests | invariant | worlds |", "|---|---|---|---|---|"]
    for name, row in rows.items():
        tests = {"green": "green", None: "not run"}.get(row.get("tests"), "red")
        worlds = str(median_worlds(row)) if caught(row) else f"none of {max(row['worlds'])}"
        lines.append(f"| `{name}` | {mutants[name].story} | {tests} | {row.get('invariant') or '–'} | {worlds} |")
    return said + "\n".join(lines) + "\n"
