"""Where the time of a small call goes: µs of each layer, and of each feature.

    python bench/layers.py [--rounds 9] [--calls 6400] [--json FILE]

A unary call with a small argument, 64 in flight, in memory: no sockets, client and server in one process on one loop. Figures are
processor time per call, both sides together: medians over the rounds, with the least and the greatest. Every other round goes through
everything the other way round, and what is subtracted is of the same round. Part one drives the real objects one at a time and puts their
sum beside the whole, so that nothing hides; part two switches each feature on at the public surface, beside the same call without it, and
shows the difference. What may never happen here: a figure that is judged; a layer that is left out because its figure is not nice.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import uvloop

from bench import yardstick
from bench.layer_features import BASE, BY_KEY, FEATURES, IN_FLIGHT, Feature, bare, more, whole
from bench.layer_parts import layers
from bench.layer_stack import stack
from bench.tables import Table

ROUNDS = 9
CALLS = 6_400

Sums = dict[str, float]
Amount = Callable[[Sums], float]


@dataclass(frozen=True)
class Row:
    """One line: a median over the rounds, with the least and the greatest, and what each round said."""

    part: str
    key: str
    name: str
    us: float
    least: float
    greatest: float
    over: str
    rounds: list[float]


def of(key: str, *less: str) -> Amount:
    """Return how to get a figure from one round's: that one, less the others."""
    return lambda sums: sums[key] - sum(sums[each] for each in less)


LAYERS: dict[str, tuple[str, Amount]] = {
    "caller": ("the caller: an argument made, a reply compared", of("caller")),
    "unary": ("client: the bound method and its stack, merged (calling/path)", of("unary+", "session_client+", "codec_client")),
    "codec_client": ("client: codec, arguments out and checked, result in", of("codec_client")),
    "session_client": ("client: session, open_unary and replies to futures", of("session_client+", "wire_client")),
    "wire_client": ("client: wire, calls to bytes, bytes to replies", of("wire_client")),
    "link": ("between: the link in memory, both directions", of("link")),
    "wire_server": ("server: wire, bytes to calls, replies to bytes", of("wire_server")),
    "codec_server": ("server: codec, arguments in, result out", of("codec_server")),
    "session_server": ("server: session and responder", of("server+", "wire_server", "codec_server", "handler_task+")),
    "handler_task": ("server: HandlerTask and a context around the handler", of("handler_task+", "handler")),
    "handler": ("server: the handler's coroutine, made and sent", of("handler")),
    "wake_up": ("client: the task is woken by its future", of("wake_up")),
}
"""In the order in which a call passes them."""


def total(sums: Sums) -> float:
    """Return the sum of the layers."""
    return sum(amount(sums) for _, amount in LAYERS.values())


WHOLES: dict[str, tuple[str, Amount]] = {
    "sum": ("the sum of these layers", total),
    "whole": (f"the whole: holdfast.testing.client, {IN_FLIGHT} tasks", of("base")),
    "rest": ("the whole less the sum: what no row above shows", lambda sums: sums["base"] - total(sums)),
    "bare": (f"bare_rpc whole, {IN_FLIGHT} tasks, no feature at all", of("bare")),
    "over_bare": ("the whole less bare_rpc: what all we promise costs", of("base", "bare")),
}


STACK: dict[str, tuple[str, Amount]] = {
    "pick_few": ("balance: the pick, two choices of 3 nodes", of("pick_few")),
    "attempt_few": ("per node: in flight, breaker, latency estimate", of("attempt_few")),
    "purse_few": ("retry budget and throttle", of("purse_few")),
    "stack_few": ("the client's stack in all, 3 nodes", of("stack_few")),
    "pick_many": ("the pick with 1,000 nodes", of("pick_many")),
    "stack_many": ("the client's stack in all, 1,000 nodes", of("stack_many")),
    "change": ("half of a set of 1,000 nodes replaced, in ms in all", of("change")),
}
"""What of `unary` above is the client's stack, for a call that goes well: the machines alone, driven as the merged way drives them."""


async def one_round(calls: int, *, backwards: bool, tell: Callable[[str], None]) -> Sums:
    """Measure everything once, in order or the other way round."""
    sums: Sums = {}

    async def parts() -> None:
        sums.update(await layers(calls))
        sums.update(stack(calls))

    def into(key: str, measure: Callable[..., Awaitable[float]], *what: Any) -> Callable[[], Awaitable[None]]:
        async def step() -> None:
            sums[key] = await measure(*what, calls)

        return step

    steps = [parts, into("base", whole), into("bare", bare), *(into(feature.key, more, feature) for feature in FEATURES)]
    for step in reversed(steps) if backwards else steps:
        await step()
    tell(f"whole {sums['base']:.2f} µs, sum of the layers {total(sums):.2f} µs, bare_rpc {sums['bare']:.2f} µs")
    return sums


def row(part: str, key: str, name: str, values: list[float], over: str = "") -> Row:
    """Return a row of what each round said."""
    return Row(part, key, name, statistics.median(values), min(values), max(values), over, values)


def over(feature: Feature) -> str:
    """Return what a feature's figure is more than."""
    return "the base" if feature.over == BASE.key else BY_KEY[feature.over].name


def rows(rounds: list[Sums]) -> list[Row]:
    """Return all rows of all rounds."""
    made = [
        row(part, key, name, [amount(sums) for sums in rounds])
        for part, amounts in (("layer", LAYERS), ("whole", WHOLES))
        for key, (name, amount) in amounts.items()
    ]
    made += [row("stack", key, name, [amount(sums) for sums in rounds]) for key, (name, amount) in STACK.items()]
    made.append(row("feature", BASE.key, BASE.name, [sums[BASE.key] for sums in rounds]))
    made += [row("feature", each.key, each.name, [sums[each.key] for sums in rounds], over(each)) for each in FEATURES]
    return made


def tables(made: list[Row]) -> list[Table]:
    """Return what is printed: the layers with the whole, then the features."""
    base = next(each.us for each in made if each.key == "whole")

    def cells(each: Row, *, sign: str = "") -> list[str]:
        return [f"{each.us:{sign}.2f}", f"{each.least:{sign}.2f} – {each.greatest:{sign}.2f}"]

    parts = [[each.name, *cells(each), f"{each.us / base:.0%}"] for each in made if each.part in ("layer", "whole")]
    machines = [[each.name, *cells(each)] for each in made if each.part == "stack"]
    features = [[each.name, *(cells(each, sign="+") if each.over else cells(each)), each.over] for each in made if each.part == "feature"]
    return [
        Table("Layers", ["layer", "µs a call", "min – max", "of the whole"], parts),
        Table("The client's stack", ["machine", "µs a call", "min – max"], machines),
        Table("Features", ["feature", "µs a call", "min – max", "more than"], features),
    ]


def about(rounds: int, calls: int) -> dict[str, Any]:
    """Return what belongs to every figure."""
    return {
        "python": platform.python_version(),
        "loop": "uvloop",
        "in_flight": IN_FLIGHT,
        "rounds": rounds,
        "calls": calls,
        "yardstick_sha256": yardstick.checked(),
    }


def parse(words: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how many [%(default)s]")
    parser.add_argument("--calls", type=int, default=CALLS, help="of each figure in each round [%(default)s]")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="for all rows, with what each round said")
    arguments = parser.parse_args(words)
    if arguments.rounds < 1 or arguments.calls < IN_FLIGHT:
        parser.error(f"--rounds {arguments.rounds} must be at least 1, and --calls {arguments.calls} at least {IN_FLIGHT}")
    return arguments


def main(words: list[str] | None = None) -> int:
    """Measure and print. Return the exit code."""
    arguments = parse(words)
    said = about(arguments.rounds, arguments.calls)
    rounds: list[Sums] = []
    for number in range(arguments.rounds):
        began = time.monotonic()

        def tell(text: str, number: int = number, began: float = began) -> None:
            left_s = (time.monotonic() - began) * (arguments.rounds - number - 1)
            print(f"round {number + 1}/{arguments.rounds}  {text}  {left_s:4.0f} s left", file=sys.stderr, flush=True)

        rounds.append(uvloop.run(one_round(arguments.calls, backwards=bool(number % 2), tell=tell)))
    made = rows(rounds)
    print(
        f"Python {said['python']}, uvloop, {IN_FLIGHT} in flight, in memory, both sides together; "
        f"{arguments.rounds} rounds of {arguments.calls:,} calls\nyardstick bare_rpc, SHA-256 {said['yardstick_sha256']}\n"
    )
    for table in tables(made):
        print(table.text())
    if arguments.json is not None:
        arguments.json.write_text(
            json.dumps({"about": said, "rows": [asdict(each) for each in made]}, indent=1, ensure_ascii=False), "utf-8"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
