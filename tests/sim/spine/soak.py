"""The spine campaign over very many worlds: in slices, with what was found so far in a file, so that it may be interrupted and go on.

Owns: the state file (JSON) and the report made of it. State belongs to the code it was made with: when a line of the package or of the
campaign has changed, the count begins anew.

What may never happen here: a slice that is counted and not in the file, or a failure that a later slice forgets.
"""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

import holdfast
from holdfast.clock import SystemClock
from holdfast.sim import Interrupted, Report, explore

from .campaign import spine
from .truth import SOMETIMES

SLICE = 1000
TOLD_EVERY_S = 10.0
SEEDS_KEPT = 50
ENOUGH = 1000
"""In so many worlds every point must have been reached; in fewer chance decides."""


@dataclass
class State:
    """What is known so far.

    Attributes:
        code: a digest of the code it is about.
        first, done: the first seed, and how many worlds were run.
        failures: by invariant: how many seeds, the first of them, and what the first one said.
        sometimes: how many worlds reached each point.
    """

    code: str
    first: int = 0
    done: int = 0
    real_s: float = 0.0
    virtual_s: float = 0.0
    steps: int = 0
    failures: dict[str, dict[str, Any]] = field(default_factory=dict)
    sometimes: dict[str, int] = field(default_factory=dict)

    def add(self, report: Report, asked: int) -> None:
        """Count one slice in."""
        self.done += asked
        self.real_s += report.real_s
        self.virtual_s += report.virtual_s
        self.steps += report.steps
        for point, worlds in report.sometimes.items():
            self.sometimes[point] = self.sometimes.get(point, 0) + worlds
        for found in report.found:
            known = self.failures.setdefault(found.failure.signature, {"worlds": 0, "seeds": [], "message": found.failure.message})
            known["worlds"] += len(found.seeds)
            known["seeds"] = [*known["seeds"], *found.seeds][:SEEDS_KEPT]

    def missing(self) -> list[str]:
        """Points that no world has reached, though there were enough of them."""
        if self.done < ENOUGH:
            return []
        return [point for point in SOMETIMES if not self.sometimes.get(point)]

    def text(self) -> str:
        """The report, for people."""
        lines = [f"{self.done:,} worlds from seed {self.first}, {self.virtual_s / 3600:,.0f} simulated hours, {self.steps:,} steps"]
        lines.append(f"{self.real_s:,.0f} s, {self.done / max(self.real_s, 1e-9):.1f} worlds a second")
        for name, known in sorted(self.failures.items()):
            lines.append(f"FAIL {name}: {known['worlds']} worlds, the first {known['seeds'][0]}: {known['message'].splitlines()[0]}")
        if not self.failures:
            lines.append("no invariant was broken")
        lines += [f"{self.sometimes.get(point, 0):>10,}  {point}" for point in SOMETIMES]
        return "\n".join(lines) + "\n"


def code_digest() -> str:
    """A digest of the package and of the campaign."""
    found = hashlib.blake2b(digest_size=16)
    for folder in (Path(holdfast.__file__).parent, Path(__file__).parent):
        for file in sorted(folder.rglob("*.py")):
            found.update(file.relative_to(folder).as_posix().encode() + b"\0" + file.read_bytes())
    return found.hexdigest()


def soak(seeds: int, first: int, file: Path, workers: int) -> int:
    """Run what is not in the file yet. Returns the exit code: 1 when an invariant was broken, or a point was not reached."""
    state = State(code=code_digest(), first=first)
    if file.exists():
        kept = msgspec.json.decode(file.read_bytes(), type=State)
        if (kept.code, kept.first) == (state.code, first):
            state = kept
            print(f"going on after {state.done:,} worlds ({file})")
    while state.done < seeds:
        begin, many = first + state.done, min(SLICE, seeds - state.done)
        print(
            f"worlds {begin:,} to {begin + many - 1:,}, {sum(each['worlds'] for each in state.failures.values())} failed so far", flush=True
        )
        try:
            report = explore(spine, seeds=many, first=begin, shrinking=False, workers=workers, watch=_Progress(state, seeds))
        except Interrupted:
            print(f"stopped after {state.done:,} worlds that are in {file}; the same command goes on there", file=sys.stderr)
            return 130
        state.add(report, many)
        _save(state, file)
    print(state.text(), end="")
    return 1 if state.failures or state.missing() else 0


def _save(state: State, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    fresh = file.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    os.replace(fresh, file)
    file.with_suffix(".txt").write_text(state.text(), "utf-8")


class _Progress:
    """Says now and then how far it is."""

    def __init__(self, state: State, seeds: int) -> None:
        self._done, self._seeds = state.done, seeds
        self._told_at = SystemClock.now()

    def __call__(self, done: int, asked: int, failed: int) -> None:
        now = SystemClock.now()
        if now - self._told_at >= TOLD_EVERY_S:
            self._told_at = now
            print(f"  {self._done + done:,} of {self._seeds:,}, {failed} failed in this slice", file=sys.stderr, flush=True)
