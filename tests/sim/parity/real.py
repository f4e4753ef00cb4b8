"""Programs on asyncio's own loop, over 127.0.0.1.

Owns the truth that the simulation is compared with. What may never happen here: a log of a program that left a task behind or an error
nobody saw. Such a program is wrong, not the loop.
"""

from __future__ import annotations

import asyncio
import fcntl
import gc
import struct
import termios
from typing import Any

from tests.sim.parity.papers import papers
from tests.sim.parity.stage import Board, Log, Program, Stage

PROGRAM_MAX_S = 20.0
QUIET_S = 0.03
"""Loopback delivers inside `send`, or a moment later under load."""


class RealGround:
    """The kernel of this machine."""

    async def arrived(self, transport: asyncio.BaseTransport, count: int) -> None:
        descriptor = transport.get_extra_info("socket").fileno()
        while True:
            (waiting,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.FIONREAD, b"\0\0\0\0"))
            if waiting >= count:
                return
            await asyncio.sleep(0.0005)

    async def quiet(self) -> None:
        await asyncio.sleep(QUIET_S)


def run_real(program: Program) -> Log:
    """The program's log, all halves as tasks of one loop."""
    unhandled: list[dict[str, Any]] = []

    async def main() -> dict[str, Stage]:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
        board, ground = Board(), RealGround()
        stages = {name: Stage(board, ground, papers(), host="127.0.0.1", bind="127.0.0.1") for name in program.halves}
        async with asyncio.timeout(PROGRAM_MAX_S), asyncio.TaskGroup() as group:
            for name, half in program.halves.items():
                group.create_task(_half(half, stages[name]), name=f"{program}:{name}")
        for _ in range(20):
            await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert not left, f"{program} left tasks: {left}"
        return stages

    with asyncio.Runner(debug=False, loop_factory=asyncio.SelectorEventLoop) as runner:
        stages = runner.run(main())
    gc.collect(0)
    assert not unhandled, f"{program} left errors to the loop: {unhandled}"
    return {name: stage.facts for name, stage in stages.items()}


async def _half(half: Any, stage: Stage) -> None:
    await half(stage)
