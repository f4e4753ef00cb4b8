"""Faults as data: what happens to a world, and when.

Owns: `Fault`, `FaultPlan`, and the table of kinds, which says what target and arguments each one has. `world.py` does what they say.

A plan is a list, ordered by time. The same plan and the same seed give the same run; any part of a plan is a plan. A fault has one of
two origins. One that stands in a plan happens at its time. One that the scenario itself causes, by calling `world.partition` and the like,
is recorded with the number of that call: in a *recorded* plan (`WorldRun.plan`) the scenario's calls do what the plan still has of them,
and the others do nothing. So a recorded plan repeats a run to the byte, and a part of it is a smaller story of the same scenario.

What may never happen here: an object in a fault that JSON cannot carry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

import msgspec

from ..errors import ConfigError

Argument = str | bool | int | float

KINDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "partition": ("hosts", ("hosts", "one_way")),
    "hold": ("hosts", ("hosts",)),
    "release": ("hosts", ("hosts",)),
    "repair": ("hosts", ("hosts",)),
    "reset": ("hosts", ("hosts",)),
    "stall": ("host", ("seconds",)),
    "kill": ("host", ()),
    "power_loss": ("host", ()),
    "restart": ("host", ()),
    "pause": ("host", ("seconds",)),
    "clock_jump": ("host", ("seconds",)),
    "clock_drift": ("host", ("rate",)),
    "descriptors": ("host", ("descriptors",)),
    "memory": ("host", ("bytes",)),
}
"""Each kind: what the target is, and the arguments. `hosts` is one name, or several joined by commas.

    partition   nothing gets from target to hosts, nor back unless one_way: datagrams are lost, streams go on when it is repaired
    hold        packets between target and hosts wait; nothing is lost.         release  they arrive, all at once, in order
    repair      ends partition and hold between target and hosts
    reset       every connection between target and hosts is reset at both ends
    stall       the processes of the host get no processor for so long; its kernel goes on
    pause       the whole machine stands still, its kernel too
    kill        kill -9 of every process: its kernel closes their sockets
    power_loss  silence: nothing is closed, the peers hear nothing
    restart     power off if it is on, then boot: the processes it was given start again
    clock_jump  its time of day jumps by so much.                               clock_drift  its clocks run at this rate (1.0 is right)
    descriptors its processes may have so many open from now on.                memory  so many bytes for its socket and write buffers
"""


class Fault(msgspec.Struct, frozen=True):
    """One thing that goes wrong, or is put right again.

    Attributes:
        at_s: when, in virtual seconds since the world began.
        kind: one of KINDS.
        target: a host's name, or several joined by commas.
        args: as KINDS says; those left out at the end have their defaults.
        call: which call of the scenario this was, counted from 0; None for one that comes from the plan alone.
    """

    at_s: float
    kind: str
    target: str
    args: tuple[Argument, ...] = ()
    call: int | None = None

    def __str__(self) -> str:
        rest = "".join(f" {argument}" for argument in self.args)
        return f"{self.at_s:.6f} {self.kind} {self.target}{rest}"


class FaultPlan(msgspec.Struct, frozen=True):
    """Faults, in the order in which they happen.

    Attributes:
        faults: the list.
        recorded: whether it stands for the scenario's own calls too, and these do nothing that is not in it.
    Raises: ConfigError for a kind there is not.
    """

    faults: tuple[Fault, ...] = ()
    recorded: bool = False

    def __post_init__(self) -> None:
        for each in self.faults:
            if each.kind not in KINDS:
                raise ConfigError(f"fault {each.kind!r} at {each.at_s:g} s: expected one of {', '.join(KINDS)}")

    @classmethod
    def of(cls, faults: Iterable[Fault]) -> FaultPlan:
        """A plan of these, put in order."""
        return cls(tuple(sorted(faults, key=lambda each: each.at_s)))

    def only(self, keep: Sequence[int]) -> FaultPlan:
        """The part of the plan with these numbers, in its order: what a shrinker tries."""
        wanted = dict.fromkeys(keep)
        return FaultPlan(tuple(each for n, each in enumerate(self.faults) if n in wanted), self.recorded)

    def to_json(self) -> str:
        """As JSON."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> FaultPlan:
        """From JSON. Raises: msgspec.ValidationError when it is no plan."""
        return msgspec.json.decode(text, type=cls)

    def __len__(self) -> int:
        return len(self.faults)

    def __iter__(self) -> Iterator[Fault]:
        return iter(self.faults)

    @overload
    def __getitem__(self, at: int) -> Fault: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Fault, ...]: ...
    def __getitem__(self, at: int | slice) -> Fault | tuple[Fault, ...]:
        return self.faults[at]
