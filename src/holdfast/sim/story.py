"""What a campaign found, in words: the seed, the invariant, the few events that are left, and the one command that shows it again.

Owns: every sentence that people read about a campaign; the command line and the test door print the same ones.

What may never happen here: a failure without a command to replay it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .explore import Found, Report
from .faults import Fault
from .scenario import Outcome

SEEDS_SHOWN_MAX = 5
EVENTS_SHOWN_MAX = 40

_UNITS = {"stall": " s", "pause": " s", "clock_jump": " s", "memory": " bytes"}

Command = Callable[[int], str]
"""The command that replays a seed."""


def summary(report: Report) -> str:
    """`1000 worlds, 12 s simulated each, in 41.0 s (290 times real time)`."""
    each_s = report.virtual_s / max(report.seeds, 1)
    speed = report.virtual_s / max(report.real_s, 1e-9)
    whole = report.seeds == report.asked
    worlds = str(report.seeds) if whole else f"stopped at the {_ordinal(report.seeds)} of {report.asked}"
    worlds += " world" if report.asked == 1 else " worlds"
    return f"{report.scenario}: {worlds}, {each_s:.1f} s simulated each, in {report.real_s:.1f} s ({speed:.0f} times real time)"


def _ordinal(number: int) -> str:
    ending = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{ending}"


def told(report: Report, command: Command) -> str:
    """Everything that is wrong, or that nothing is."""
    parts = [summary(report), *(failure(each, command) for each in report.found)]
    parts += [
        f"FAIL never reached: {point!r} in {report.seeds} worlds\n"
        "  a campaign that never gets there says nothing about it: more seeds, a rougher climate, or a scenario that goes there"
        for point in report.missing
    ]
    if report.ok:
        reached = ", ".join(f"{point} in {count}" for point, count in report.sometimes.items())
        faults = f" · {report.faults} faults" if report.faults else ""
        parts.append(f"ok{faults}" + (f" · reached: {reached}" if reached else ""))
    return "\n".join(parts)


def failure(found: Found, command: Command) -> str:
    """One way to fail."""
    first = found.outcome.case.seed
    more = ""
    if len(found.seeds) > 1:
        others = [str(seed) for seed in found.seeds if seed != first]
        more = f" (and {len(others)} more: {', '.join(others[:SEEDS_SHOWN_MAX])}{', …' if len(others) > SEEDS_SHOWN_MAX else ''})"
    small = found.shrunk.outcome if found.shrunk is not None else found.outcome
    assert small.failure is not None
    lines = [f"FAIL seed {first}{more}: {found.failure.message}, at t={found.failure.at_s:.3f} s"]
    if found.shrunk is not None:
        unfinished = "" if found.shrunk.complete else "; more might go, the budget ended"
        lines.append(
            f"  shrunk from {found.shrunk.events_before} to {found.shrunk.events} events ({found.shrunk.runs} worlds tried{unfinished}):"
        )
    lines += [f"    {each}" for each in events(small)]
    if found.shrunk is not None:
        lines.append(f"  in this small world: {small.failure.message}, at t={small.failure.at_s:.3f} s")
    lines.append(f"  replay: {command(first)}")
    return "\n".join(lines)


def events(outcome: Outcome) -> list[str]:
    """What happens in a case: its weather, if it matters, its operations, and its faults in the order they come."""
    weather = [f"{'weather':>12}  {outcome.weather}"] if outcome.weather else []
    operations = [f"{each.workload:>12}  {each.text}" for each in outcome.operations]
    return weather + _some(operations) + _some([fault(each) for each in sorted(outcome.case.plan or (), key=lambda each: each.at_s)])


def _some(lines: Sequence[str]) -> list[str]:
    if len(lines) <= EVENTS_SHOWN_MAX:
        return list(lines)
    return [*lines[:EVENTS_SHOWN_MAX], f"{'…':>12}  and {len(lines) - EVENTS_SHOWN_MAX} more"]


def fault(each: Fault) -> str:
    """`     0.512 s  partition a, b one way`."""
    words = ", ".join([each.target, *(str(argument) for argument in each.args if isinstance(argument, str))])
    numbers = "".join(f" {argument:.6g}" for argument in each.args if isinstance(argument, int | float) and not isinstance(argument, bool))
    one_way = " one way" if True in each.args and each.kind == "partition" else ""
    return f"{each.at_s:>10.3f} s  {each.kind} {words}{numbers}{_UNITS.get(each.kind, '')}{one_way}"
