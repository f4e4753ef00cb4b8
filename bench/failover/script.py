"""The script: what happens to the nodes, phase by phase, the same for every contender.

Owns the order and the length of the phases. A phase begins a moment before its fault, so that the calls that it meets in flight count as
its own. Between two phases everything is left alone for a while, and what happens there is counted as well, as `between`.
What may never happen here: a fault whose phase ends before the fault does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bench.failover.scene import Scene

WARM_S = 3.0
PAUSE_S = 2.5
LEAD_S = 0.1
"""From a phase's begin to its fault: twice the longest call."""


@dataclass(frozen=True)
class Step:
    """Something done to a node, so many seconds after the fault began."""

    at_s: float
    what: str
    do: Callable[[Scene], None]


@dataclass(frozen=True)
class Phase:
    """A stretch of the script that gets a row of its own."""

    key: str
    seconds: float
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class Stretch:
    """A phase as it was: from when to when, on the clock of the records."""

    key: str
    begun_at: float
    ended_at: float
    cores: dict[str, float] = field(default_factory=dict)
    """Of the calm phase: the processor time that each part used a second, and everybody else on the machine."""


def calm(seconds: float) -> Phase:
    """Nothing happens: what everything else is compared with."""
    return Phase("calm", seconds)


def kill(node: int, *, gone_s: float, seconds: float) -> Phase:
    """A node is killed and started again."""
    steps = (
        Step(0.0, f"kill -9 node {node}", lambda scene: scene.kill(node)),
        Step(gone_s, f"start node {node} again", lambda scene: scene.start(node)),
    )
    return Phase("kill", seconds, steps)


def freeze(node: int, *, frozen_s: float, seconds: float) -> Phase:
    """A node stops where it stands, and goes on later."""
    steps = (
        Step(0.0, f"SIGSTOP node {node}", lambda scene: scene.freeze(node)),
        Step(frozen_s, f"SIGCONT node {node}", lambda scene: scene.thaw(node)),
    )
    return Phase("freeze", seconds, steps)


def blackhole(node: int, *, dark_s: float, seconds: float) -> Phase:
    """A node's link swallows everything, and delivers it later."""
    steps = (
        Step(0.0, f"the link of node {node} forwards nothing", lambda scene: scene.blackhole(node)),
        Step(dark_s, f"the link of node {node} goes on", lambda scene: scene.heal(node)),
    )
    return Phase("blackhole", seconds, steps)


def reset(node: int, *, refused_s: float, seconds: float) -> Phase:
    """All connections of a node are cut, and new ones refused for a while."""
    steps = (
        Step(0.0, f"RST on all connections of node {node}", lambda scene: scene.reset(node)),
        Step(refused_s, f"node {node} can be reached again", lambda scene: scene.accept(node)),
    )
    return Phase("reset", seconds, steps)


def restart(node: int, *, seconds: float) -> Phase:
    """A node is asked to stop, finishes what it has, and is started again."""
    steps = (
        Step(0.0, f"SIGTERM node {node}, until it has ended", lambda scene: scene.terminate(node)),
        Step(0.0, f"start node {node} again", lambda scene: scene.start(node)),
    )
    return Phase("restart", seconds, steps)


WHOLE: tuple[Phase, ...] = (
    calm(8),
    kill(0, gone_s=2, seconds=10),
    freeze(1, frozen_s=5, seconds=11),
    blackhole(2, dark_s=5, seconds=11),
    reset(0, refused_s=1, seconds=6),
    restart(1, seconds=9),
)


def run(
    scene: Scene, phases: Sequence[Phase], tell: Callable[[str], None], *, warm_s: float = WARM_S, pause_s: float = PAUSE_S
) -> list[Stretch]:
    """Play the phases while the clients call; return what was when, `between` included. Raises: ChildFailed."""
    begins_at = scene.begin()
    sleep_until(begins_at + warm_s)
    stretches = []
    for number, phase in enumerate(phases):
        if number:
            stretches.append(_play(scene, Phase("between", pause_s), tell))
        stretches.append(_play(scene, phase, tell))
    stretches.append(_play(scene, Phase("between", pause_s / 2), tell))
    scene.finish()
    return stretches


def _play(scene: Scene, phase: Phase, tell: Callable[[str], None]) -> Stretch:
    before = scene.used_s() if phase.key == "calm" else {}
    begun_at = time.monotonic()
    for step in phase.steps:
        sleep_until(begun_at + LEAD_S + step.at_s)
        tell(f"{phase.key}: {step.what}")
        step.do(scene)
    sleep_until(begun_at + LEAD_S + phase.seconds)
    ended_at = time.monotonic()
    after = scene.used_s() if before else {}
    cores = {part: round(max(after[part] - before[part], 0.0) / (ended_at - begun_at), 2) for part in before}
    return Stretch(phase.key, begun_at, ended_at, cores)


def sleep_until(moment: float) -> None:
    """Sleep until the clock of the records says so."""
    time.sleep(max(0.0, moment - time.monotonic()))
