"""One client process: measures one side once, or several by turns, and prints a list of their figures.

    python -m bench.client SPEC SIDE [SIDE ...]

SPEC says what to do, a SIDE to whom: its `peer`, `where` its server listens (what the server said of that), its `call`, and `server_pids`;
all JSON. Several sides share the process, so they have the same Python and loop. It ends with exit code 3 when a reply was not what was
asked for. What may never happen here: a connection of an earlier measurement; each has a process of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import sys
from typing import Any

from bench import measuring
from bench.peers import PEERS
from bench.processes import WrongReply

OPENING_AT_ONCE = 128


async def with_loop(spec: dict[str, Any], sides: list[dict[str, Any]]) -> list[measuring.Figures]:
    """Measure libraries that have a loop. Cancel: closes the connections."""
    in_flight: int = spec["in_flight"]
    async with contextlib.AsyncExitStack() as closing:
        turns = []
        for side in sides:
            module = importlib.import_module(PEERS[side["peer"]].module)
            link = await module.connect(side["where"], in_flight)
            closing.push_async_callback(link.close)
            window = measuring.Window(spec["seconds"], side["server_pids"])
            turns.append((window, work_of(link, side["call"], spec, window)))
        return await measuring.by_turns(turns, in_flight)


def work_of(link: Any, call: str, spec: dict[str, Any], window: measuring.Window) -> measuring.Work:
    """Return the closed loop that makes these calls."""
    if call == "bulk":
        return measuring.bulks(link.bulk, spec["in_flight"], window)
    if call == "items":
        return measuring.streams(link.items, spec["count"], spec["in_flight"], window)
    return measuring.echoes(getattr(link, call), spec["in_flight"], window)


async def hold(module: Any, where: dict[str, Any], count: int) -> None:
    """Open connections that make one call each, then hold them until stdin closes."""
    links = [await module.dial(where) for _ in range(count)]
    for number, link in enumerate(links):
        measuring.compare(await link.echo(number, "x"), number, "x")
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def without_loop(module: Any, style: str, spec: dict[str, Any], side: dict[str, Any]) -> measuring.Figures:
    """Measure a library whose calls block."""
    in_flight = spec["in_flight"]
    links = [module.connect(side["where"]) for _ in range(in_flight if style == "threads" else 1)]
    window = measuring.Window(spec["seconds"], side["server_pids"])
    try:
        return measuring.threads(links, window) if style == "threads" else measuring.pipeline(links[0], in_flight, window)
    finally:
        for link in links:
            link.close()


def run(spec: dict[str, Any], sides: list[dict[str, Any]]) -> list[measuring.Figures]:
    """Measure as `spec` says."""
    first = sides[0]
    about, where = PEERS[first["peer"]], first["where"]
    module = importlib.import_module(about.module)
    if about.style != "tasks":
        return [without_loop(module, about.style, spec, first)]
    with asyncio.Runner(loop_factory=about.loop_factory()) as runner:
        if first["call"] == "hold":
            runner.run(hold(module, where, spec["count"]))
            return []
        if first["call"] == "open":
            window = measuring.Window(spec["seconds"], first["server_pids"])
            return [runner.run(measuring.opened(lambda: module.dial(where), spec["count"], OPENING_AT_ONCE, window))]
        return runner.run(with_loop(spec, sides))


def main() -> None:
    """Measure what the command line names."""
    spec, *sides = map(json.loads, sys.argv[1:])
    try:
        figures = run(spec, sides)
    except WrongReply as error:
        print(error, flush=True)
        sys.exit(WrongReply.exit_code)
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
