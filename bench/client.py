"""One client process: measures one side once and prints one JSON object.

    python -m bench.client PEER WHERE SPEC

WHERE is what the server said about where it listens, SPEC what to do, both JSON. It ends with exit code 3 when a reply was not what was
asked for. What may never happen here: a connection of an earlier measurement; each has a process of its own.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from typing import Any

from bench import measuring
from bench.peers import PEERS
from bench.processes import WrongReply

OPENING_AT_ONCE = 128


async def with_loop(module: Any, where: dict[str, Any], spec: dict[str, Any]) -> measuring.Figures:
    """Measure a library that has a loop."""
    call, in_flight = spec["call"], spec["in_flight"]
    window = measuring.Window(spec["seconds"], spec["server_pids"])
    if call == "open":
        return await measuring.opened(lambda: module.dial(where), spec["count"], OPENING_AT_ONCE, window)
    link = await module.connect(where, in_flight)
    try:
        if call == "bulk":
            return await measuring.bulks(link.bulk, in_flight, window)
        if call == "items":
            return await measuring.streams(link.items, spec["count"], in_flight, window)
        return await measuring.echoes(getattr(link, call), in_flight, window)
    finally:
        await link.close()


async def hold(module: Any, where: dict[str, Any], count: int) -> None:
    """Open connections that make one call each, then hold them until stdin closes."""
    links = [await module.dial(where) for _ in range(count)]
    for number, link in enumerate(links):
        measuring.compare(await link.echo(number, "x"), number, "x")
    print("open", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def without_loop(module: Any, style: str, where: dict[str, Any], spec: dict[str, Any]) -> measuring.Figures:
    """Measure a library whose calls block."""
    in_flight = spec["in_flight"]
    links = [module.connect(where) for _ in range(in_flight if style == "threads" else 1)]
    window = measuring.Window(spec["seconds"], spec["server_pids"])
    try:
        return measuring.threads(links, window) if style == "threads" else measuring.pipeline(links[0], in_flight, window)
    finally:
        for link in links:
            link.close()


def run(peer: str, where: dict[str, Any], spec: dict[str, Any]) -> measuring.Figures | None:
    """Measure as `spec` says."""
    about = PEERS[peer]
    module = importlib.import_module(about.module)
    if about.style != "tasks":
        return without_loop(module, about.style, where, spec)
    with asyncio.Runner(loop_factory=about.loop_factory()) as runner:
        if spec["call"] == "hold":
            runner.run(hold(module, where, spec["count"]))
            return None
        return runner.run(with_loop(module, where, spec))


def main() -> None:
    """Measure what the command line names."""
    peer, where, spec = sys.argv[1], json.loads(sys.argv[2]), json.loads(sys.argv[3])
    try:
        figures = run(peer, where, spec)
    except WrongReply as error:
        print(error, flush=True)
        sys.exit(WrongReply.exit_code)
    if figures is not None:
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
