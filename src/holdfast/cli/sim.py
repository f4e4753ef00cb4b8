"""`holdfast sim FILE`: run the scenarios of a file in many worlds, and show the ones that fail, made small.

Owned here: the options, progress on stderr, the exit code. What may never happen: a campaign that is interrupted and says nothing about
what it had found, or a failure without the command that shows it again.
"""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any, NamedTuple, TextIO

import click
import msgspec

from ..clock import SystemClock
from ..sim.corpus import Corpus
from ..sim.explore import Found, Interrupted, Report, explore, replay, silenced
from ..sim.loading import chosen
from ..sim.scenario import Scenario
from ..sim.story import events, told
from .options import Style, common_options, env_option, is_terminal

SEEDS = 1000
WORKERS_MAX = 16
TERMINAL_EVERY_S = 0.2
LINES_EVERY_S = 10.0
LINES_EVERY_VERBOSE_S = 1.0
"""How often progress is told: on a terminal, where it overwrites itself, and in a log."""

EPILOG = """\b
FILE is a Python file; FILE::NAME is one scenario of it. A scenario is an
`async def test_…(world: World)` under @sim_test.

\b
Examples:
  holdfast sim tests/sim_orders.py
  holdfast sim tests/sim_orders.py::test_orders --seeds 20000
  holdfast sim tests/sim_orders.py --seed 733 --shrink
  holdfast sim tests/sim_orders.py --corpus tests/sim_orders.json"""


class Plan(NamedTuple):
    """What was asked for."""

    seeds: int
    first: int
    seed: int | None
    shrinking: bool
    workers: int
    corpus: Corpus | None
    style: Style


@click.command("sim", epilog=EPILOG)
@click.argument("file", metavar="FILE[::NAME]")
@env_option("--seeds", env="SEEDS", type=click.IntRange(min=1), metavar="N", default=SEEDS, show_default=True, help="How many worlds.")
@env_option("--first", env="FIRST", type=click.IntRange(min=0), metavar="K", default=0, show_default=True, help="The first seed.")
@env_option("--seed", env="SEED", type=click.IntRange(min=0), metavar="K", help="One world only: this one.")
@env_option("--shrink/--no-shrink", env="SHRINK", default=None, help="Make failing worlds small.  [default: unless --seed is given]")
@env_option("--workers", env="WORKERS", type=click.IntRange(1, WORKERS_MAX), metavar="N", help="Processes.  [default: one per core]")
@env_option("--corpus", env="CORPUS", metavar="FILE", help="Run the cases kept in this file first, and keep what fails in it.")
@common_options
def command(
    file: str,
    seeds: int,
    first: int,
    seed: int | None,
    shrink: bool | None,
    workers: int | None,
    corpus: str | None,
    style: Style,
) -> int:
    """Run scenarios in many simulated worlds.

    Every scenario of FILE is run in one world per seed.

    Each failure comes with its seed, what is left of the world when it is made small, and the command that shows it again.
    """
    scenarios = chosen(file)
    if workers is None:
        workers = min(os.cpu_count() or 1, WORKERS_MAX)
    kept = Corpus(corpus) if corpus is not None else None
    plan = Plan(seeds, first, seed, seed is None if shrink is None else shrink, workers, kept, style)
    good = True
    for scenario in scenarios:
        try:
            report = _campaign(scenario, plan)
        except Interrupted as stopped:
            _show(stopped.report, plan, interrupted=True)
            return 130
        _keep(report, plan)
        _show(report, plan)
        good = good and report.ok
    return 0 if good else 1


def _campaign(scenario: Scenario, plan: Plan) -> Report:
    if plan.seed is not None:
        return replay(scenario, plan.seed, shrinking=plan.shrinking, speaking=not plan.style.json)
    progress = Progress(plan.style, sys.stderr)
    cases = plan.corpus.cases(scenario.name) if plan.corpus is not None else []
    try:
        with silenced():
            return explore(
                scenario, seeds=plan.seeds, first=plan.first, cases=cases, shrinking=plan.shrinking, workers=plan.workers, watch=progress
            )
    finally:
        progress.end()


class Progress:
    """How far it is, on stderr: on a terminal a line that overwrites itself, otherwise a line now and then."""

    def __init__(self, style: Style, stream: TextIO) -> None:
        self._quiet = style.quiet
        self._stream = stream
        self._terminal = is_terminal(stream)
        in_a_log_s = LINES_EVERY_VERBOSE_S if style.verbose else LINES_EVERY_S
        self._every_s = TERMINAL_EVERY_S if self._terminal else in_a_log_s
        self._told_at = SystemClock.now()
        self._shown = False

    def __call__(self, done: int, asked: int, failed: int) -> None:
        now = SystemClock.now()
        if self._quiet or now - self._told_at < self._every_s:
            return
        self._told_at = now
        self._shown = self._terminal
        line = f"{done} of {asked} worlds, {failed} failed"
        self._stream.write(f"\r{line}\x1b[K" if self._terminal else f"{line}\n")
        self._stream.flush()

    def end(self) -> None:
        """Take the line away again."""
        if self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _keep(report: Report, plan: Plan) -> None:
    """Write what failed into the corpus, made small where it was."""
    if plan.corpus is None:
        return
    new = 0
    for each in report.found:
        outcome = each.shrunk.outcome if each.shrunk is not None else each.outcome
        new += plan.corpus.add(report.scenario, outcome.case, each.failure.signature)
    if new:
        plan.corpus.save()
        click.echo(f"{new} new in {plan.corpus.path}, {len(plan.corpus)} in all", err=True)


def _show(report: Report, plan: Plan, *, interrupted: bool = False) -> None:
    if plan.style.json:
        sys.stdout.buffer.write(msgspec.json.encode(_record(report, interrupted)) + b"\n")
        return
    if plan.style.quiet and report.ok:
        return
    click.echo(told(report, lambda seed: f"{_command(report, seed)} --shrink"))
    if plan.style.verbose:
        for each in report.found:
            last = each.shrunk.outcome if each.shrunk is not None else each.outcome
            click.echo(last.failure.details if last.failure is not None else "")
    if interrupted:
        click.echo("interrupted; nothing was shrunk", err=True)


def _command(report: Report, seed: int) -> str:
    return f"holdfast sim {shlex.quote(report.place)} --seed {seed}"


def _record(report: Report, interrupted: bool) -> dict[str, Any]:
    return {
        "scenario": report.scenario,
        "place": report.place,
        "ok": report.ok and not interrupted,
        "interrupted": interrupted,
        "worlds": report.seeds,
        "asked": report.asked,
        "virtual_s": report.virtual_s,
        "real_s": round(report.real_s, 3),
        "reached": report.sometimes,
        "never_reached": report.missing,
        "failures": [_failure_record(each, report) for each in report.found],
    }


def _failure_record(found: Found, report: Report) -> dict[str, Any]:
    last = found.shrunk.outcome if found.shrunk is not None else found.outcome
    assert last.failure is not None
    record: dict[str, Any] = {
        "seeds": found.seeds,
        "invariant": found.failure.signature,
        "message": last.failure.message,
        "at_s": last.failure.at_s,
        "digest": last.digest,
        "case": last.case,
        "events": [line.strip() for line in events(last)],
        "replay": f"{_command(report, found.seeds[0])} --shrink",
    }
    if found.shrunk is not None:
        record["shrunk"] = {"from": found.shrunk.events_before, "to": found.shrunk.events, "worlds": found.shrunk.runs}
    return record
