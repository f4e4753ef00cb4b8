"""What becomes of a run: a file of raw rounds, tables on the terminal, and, when asked for, tables and plots in the docs.

Owns the file's shape. What may never happen here: figures in the docs that are not those of the raw rounds beside them.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import asdict, dataclass
from typing import Any

from bench import tables
from bench.figures import Sample
from bench.lines import promised
from bench.workloads import FULL, QUICK, Workload, workloads


@dataclass(frozen=True)
class Results:
    """Everything a run has found."""

    about: dict[str, Any]
    samples: list[Sample]
    missing: dict[str, str]
    interrupted: bool

    @property
    def python(self) -> str:
        """The version it ran on: 3.11."""
        return str(self.about["python"]).rpartition(".")[0]

    def workloads(self) -> list[Workload]:
        """Return the workloads that its samples are of."""
        prefix = "python-holdfast"
        sides = dict.fromkeys(each.side.rpartition(" ")[2] for each in self.samples if each.workload == prefix)
        return workloads(QUICK if self.about["quick"] else FULL, self.python, sorted(side for side in sides if side != self.python))


def save(results: Results, path: pathlib.Path) -> None:
    """Write the raw rounds, one sample a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"about": results.about, "missing": results.missing, "interrupted": results.interrupted}
    lines = ",\n".join(json.dumps(asdict(each), ensure_ascii=False) for each in results.samples)
    path.write_text(f'{json.dumps(head, indent=1, ensure_ascii=False)[:-2]},\n "samples": [\n{lines}\n]}}\n', "utf-8")
    print(f"raw rounds: {path}")


def load(path: pathlib.Path) -> Results:
    """Read the raw rounds back."""
    said = json.loads(path.read_text("utf-8"))
    return Results(said["about"], [Sample(**each) for each in said["samples"]], said["missing"], said["interrupted"])


def heading(about: dict[str, Any]) -> str:
    """Return the lines that belong to every figure."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"yardstick bare_rpc, SHA-256 {about['yardstick_sha256']}\n"
        f"Python {about['python']} · {about['machine']} · load {about['load_before']} before the run · {about['began']}\n"
        f"{about['rounds']} round{'s' if about['rounds'] != 1 else ''} of {about['seconds']:g} s · {versions}"
    )


def shown(results: Results, *, write_docs: bool, strict: bool) -> int:
    """Print the tables and the promised lines, and write the docs if asked to. Return the exit code."""
    print()
    for workload in results.workloads():
        if (table := tables.of_workload(workload, results.samples)) is not None:
            print(table.text())
    lines = promised(results.samples, results.python)
    # A part of a run is for somebody who works on that part.
    print(tables.of_lines([line for line in lines if line.met is not None or not results.about["only"]]).text())
    for note in tables.notes(results.samples, results.missing):
        print(note)
    if results.about["quick"]:
        print("This was --quick: it shows that everything works, and little else.")
    if results.interrupted:
        print("This run was interrupted.")
    if write_docs:
        from bench import pages

        pages.write(results, lines)
    return int(strict and any(line.met is not True for line in lines))
