"""What a node does for a call: the same for every contender.

Owns how long a call takes, which calls may run twice, and the node's own log of what it executed. What may never happen here: an execution
that is not in the log before its work begins, or one that a kill takes out of it: a record is one write to a file opened for appending.
"""

from __future__ import annotations

import json
import mmap
import os
import pathlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

VARIABLE = "FAILOVER_WORK"
NORMAL, SLOW, FAILING = 0, 1, 2
SLOWER = 100
TICK_S = 0.25
"""Between two items of a stream."""

_MASK = 2**64 - 1


def mixed(number: int) -> int:
    """Return 64 bits that look like chance and are always the same for the same number (splitmix64)."""
    number = (number + 0x9E3779B97F4A7C15) & _MASK
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def may_run_twice(call_id: int) -> bool:
    """Return whether this call goes to the idempotent method: half of them do."""
    return bool(mixed(call_id) & 1)


@dataclass(frozen=True)
class Plan:
    """What a node is told: how long calls take, where it logs, and the file of one byte that says how it behaves from now on."""

    shortest_ms: float
    longest_ms: float
    log: str
    mode: str

    def takes_s(self, call_id: int) -> float:
        """Return how long this call takes: drawn by the call's own number, so that most calls are long ones.

        With few short ones, fifty calls are in flight at a rate that two cores can carry for every contender.
        """
        drawn = (mixed(call_id) >> 11) / 2**53
        return (self.longest_ms - (self.longest_ms - self.shortest_ms) * drawn**3) / 1e3

    @property
    def mean_s(self) -> float:
        """Return how long calls take on average."""
        return (self.longest_ms - (self.longest_ms - self.shortest_ms) / 4) / 1e3

    def environment(self) -> dict[str, str]:
        """Return what the node's process needs to find this again."""
        return {VARIABLE: json.dumps(self.__dict__)}


class Failing(Exception):
    """A node that is told to fail does so at once."""


class Work:
    """A node's work: every contender's handler begins a call here, then sleeps as long as it says."""

    def __init__(self, plan: Plan) -> None:
        self._takes_s = plan.takes_s
        self._log = os.open(plan.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        mode = os.open(plan.mode, os.O_RDONLY)
        self._mode = mmap.mmap(mode, 1, prot=mmap.PROT_READ)
        os.close(mode)

    def begin(self, call_id: int) -> float:
        """Note that the call is executed; return how many seconds it takes. Raises: Failing."""
        os.write(self._log, b"%d %.4f\n" % (call_id, time.monotonic()))
        mode = self._mode[0]
        if mode == FAILING:
            raise Failing("this node fails everything, as it was told to")
        return self._takes_s(call_id) * (SLOWER if mode == SLOW else 1)

    def close(self) -> None:
        """Close the log."""
        os.close(self._log)
        self._mode.close()


def from_environment(variables: Mapping[str, str] = os.environ) -> Work:
    """Return the work of the node that this process is. Raises: SystemExit when it was not started as one."""
    if VARIABLE not in variables:
        raise SystemExit(f"{VARIABLE} is not set: nodes are started by `python -m bench.failover`, see bench/failover/README.md")
    return Work(Plan(**json.loads(variables[VARIABLE])))


def set_mode(path: pathlib.Path, mode: int) -> None:
    """Tell a node how to behave from its next call on: NORMAL, SLOW or FAILING."""
    with path.open("r+b") as file:
        file.write(bytes([mode]))
