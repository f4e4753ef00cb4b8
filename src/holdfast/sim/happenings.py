"""What goes wrong in a world: faults become what they mean, and are written down.

Owns: the plan of a world; whether a fault that the scenario causes happens at all (under a recorded plan only if the plan has it); what
each kind of fault does to links and hosts; and the list of what has happened. What may never happen here: a fault that is not recorded.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from ..errors import ConfigError
from .engine import Engine
from .faults import KINDS, Argument, Fault, FaultPlan
from .kernel import Kernel
from .links import Link, Links
from .machine import Host

HEALING = ("release", "repair", "restart")
UNSETTLING = ("power_loss", "pause", "restart")
"""What a peer may notice by hearing nothing: whoever has keepalive begins to ask."""


class NoSuchHost(ConfigError):
    """A fault is of a host that is not there. Attributes: `name`, and `made`: the hosts there are, the scenario's own left out."""

    def __init__(self, name: str, made: tuple[str, ...], driver: str) -> None:
        super().__init__(f"no host is called {name!r}; there are {', '.join((driver, *made))}")
        self.name = name
        self.made = made


class Happenings:
    """The faults of one world.

    Args:
        hosts: by name. driver: the one the scenario runs on, which cannot be taken down.

    Attributes:
        applied: what has happened, in order.
        over: `settle` was called: what the plan still has does not happen, except what mends.
    """

    def __init__(self, engine: Engine, links: Links, hosts: dict[str, Host], driver: str, plan: FaultPlan) -> None:
        self._engine = engine
        self._links = links
        self._hosts = hosts
        self._driver = driver
        self._calls = 0
        self._recorded = {fault.call: fault for fault in plan if fault.call is not None} if plan.recorded else None
        self.applied: list[Fault] = []
        self.over = False
        for fault in plan:
            if not plan.recorded or fault.call is None:
                engine.at(fault.at_s, self._planned, fault)

    def cause(self, kind: str, target: str, *args: Argument) -> None:
        """A fault that the scenario causes."""
        call, self._calls = self._calls, self._calls + 1
        if self._recorded is not None:
            recorded = self._recorded.get(call)
            if recorded is None or recorded.kind != kind:
                return
        self._apply(Fault(self._engine.time(), kind, target, args, call))

    def _planned(self, fault: Fault) -> None:
        if not self.over or fault.kind in HEALING:
            self._apply(msgspec.structs.replace(fault, call=None))

    def _apply(self, fault: Fault) -> None:
        what, names = KINDS[fault.kind]
        args = fault.args[: len(names)]
        targets = [self.known(name) for name in fault.target.split(",")]
        self.applied.append(fault)
        self._engine.record("fault", fault.target, (fault.kind, *args))
        if what == "hosts":
            getattr(self, f"_do_{fault.kind}")(fault.target, *args)
            return
        for host in targets:
            if host.name == self._driver and fault.kind in ("kill", "power_loss", "restart"):
                raise ConfigError(f"{fault.kind} of {host.name!r}: the scenario runs there; choose another host")
            host.apply(fault.kind, *args)
            if fault.kind in UNSETTLING:
                self._doubt([host.kernel])

    # ------------------------------------------------------------------------------------------------------------ hosts and links

    def known(self, name: str) -> Host:
        """The host of that name. Raises: ConfigError when there is none."""
        host = self._hosts.get(name)
        if host is None:
            raise NoSuchHost(name, tuple(each for each in self._hosts if each != self._driver), self._driver)
        return host

    def between(self, a: str, b: str, *, one_way: bool = False) -> list[Link]:
        """The links between two hosts, or groups of them (names joined by commas); those of a group with itself too, if it is both."""
        pairs = [(x, y) for x in a.split(",") for y in b.split(",") if x != y or a == b]
        if not one_way:
            pairs += [(y, x) for x, y in pairs if x != y]
        return [self._links.between(self.known(x).kernel, self.known(y).kernel) for x, y in dict.fromkeys(pairs)]

    def heal(self) -> None:
        """End everything that is wrong, for good."""
        self.over = True
        for kernel in self._kernels():
            for link in tuple(kernel.links.values()):
                link.cut = link.held = False
                self._links.reopen(link)
        for host in self._hosts.values():
            if not host.up or (host.booted and not host.processes):
                self._engine.record("fault", host.name, ("restart",))
                host.apply("restart")

    def _kernels(self) -> Iterator[Kernel]:
        for host in self._hosts.values():
            yield host.kernel

    def _doubt(self, ends: list[Kernel]) -> None:
        """Something happened to machines or to the way there: who has a connection to one of them begins to wonder."""
        for kernel in self._kernels():
            for connection in tuple(kernel.connections.values()):
                if connection.peer is not None and connection.peer.kernel in ends:
                    connection.doubt()

    # ------------------------------------------------------------------------------------------------------- what each one does

    def _do_partition(self, a: str, b: str, one_way: bool = False) -> None:
        for link in self.between(a, b, one_way=one_way):
            link.cut = True
        self._doubt([self.known(name).kernel for name in (*a.split(","), *b.split(","))])

    def _do_hold(self, a: str, b: str) -> None:
        for link in self.between(a, b):
            link.held = True

    def _do_release(self, a: str, b: str) -> None:
        for link in self.between(a, b):
            self._links.release(link)

    def _do_repair(self, a: str, b: str) -> None:
        for link in self.between(a, b):
            link.cut = link.held = False
            self._links.reopen(link)

    def _do_reset(self, a: str, b: str) -> None:
        ends = [self.known(name).kernel for name in b.split(",")]
        for name in a.split(","):
            for connection in tuple(self.known(name).kernel.connections.values()):
                if connection.peer is not None and connection.peer.kernel in ends:
                    connection.on_reset()
                    connection.peer.on_reset()
