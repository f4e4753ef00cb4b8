"""A scene: one contender's nodes, each behind a relay of its own, and the client processes that call them.

Owns starting all of it, what can be done to a node, and the folder of logs. What may never happen here: something that is not the same for
every contender; a process that stays behind.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import signal
import socket
import sys
import time
from dataclasses import dataclass
from types import TracebackType

from bench.failover import work
from bench.failover.caller import LAST_CALLS_S, Spec
from bench.failover.children import Child, ChildFailed, Children
from bench.failover.contenders import Contender, haproxy
from bench.processes import busy_s, cpu_s, family

SOON_S = 0.3
"""From the word to the first call: all clients have heard it by then."""
STOP_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Scale:
    """How large a scene is."""

    nodes: int = 3
    clients: int = 4
    rate: float
    """Calls a second, of all clients together."""
    streams: int = 20
    """Of all clients together."""
    shortest_ms: float = 5.0
    longest_ms: float = 50.0

    @property
    def expected_in_flight(self) -> float:
        """Return how many calls are in flight when nothing is in their way."""
        return self.rate * work.Plan(self.shortest_ms, self.longest_ms, "", "").mean_s


class Scene:
    """A context manager: inside it, everything runs."""

    def __init__(self, contender: Contender, folder: pathlib.Path, scale: Scale) -> None:
        self.contender = contender
        self.scale = scale
        self.folder = folder
        self._stack = contextlib.ExitStack()
        self._children = self._stack.enter_context(Children(folder))
        self._nodes: list[Child | None] = [None] * scale.nodes
        self._node_ports = [0] * scale.nodes
        self._clients: list[Child] = []
        self._proxies: list[Child] = []
        self._starts = 0

    def __enter__(self) -> Scene:
        try:
            self._set_up()
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _set_up(self) -> None:
        self._relay = self._children.start("relay", [sys.executable, "-m", "bench.failover.relay", str(self.scale.nodes)])
        self.ports: list[int] = json.loads(self._relay.hear())["ports"]
        for number in range(self.scale.nodes):
            self.mode_path(number).write_bytes(bytes([work.NORMAL]))
            self._launch(number)
        for number in range(self.scale.nodes):
            self._open(number)
        ports = [self._start_haproxy()] if self.contender.proxied else self.ports
        for number in range(self.scale.clients):
            spec = Spec(
                contender=self.contender.name,
                ports=ports,
                number=number,
                behind_s=number / self.scale.rate,
                rate=self.scale.rate / self.scale.clients,
                streams=self.scale.streams // self.scale.clients,
                records=str(self.records_path(number)),
            )
            self._clients.append(self._children.start(f"client{number}", [sys.executable, "-m", "bench.failover.caller", spec.to_json()]))
        for client in self._clients:
            client.ready()

    def _start_haproxy(self) -> int:
        """Start HAProxy at a port that the kernel picks; return it once all nodes have passed a check."""
        with socket.socket() as ours:
            ours.bind(("127.0.0.1", 0))
            ours.listen(1024)
            file = self.folder / "haproxy.cfg"
            file.write_text(haproxy.config(ours.fileno(), self.ports))
            command, environment = haproxy.command(file), haproxy.environment()
            self._proxies.append(self._children.start("haproxy", command, environment=environment, descriptors=[ours.fileno()]))
            return int(ours.getsockname()[1])

    # ------------------------------------------------------------------ files

    def log_path(self, number: int) -> pathlib.Path:
        """Return where a node logs what it executes, in all its lives."""
        return self.folder / f"node{number}.executed"

    def mode_path(self, number: int) -> pathlib.Path:
        """Return the file that says how a node behaves."""
        return self.folder / f"node{number}.mode"

    def records_path(self, number: int) -> pathlib.Path:
        """Return where a client writes what happened."""
        return self.folder / f"client{number}.records"

    # ------------------------------------------------------------------ clients

    def begin(self) -> float:
        """Let the clients begin; return when they do."""
        begins_at = time.monotonic() + SOON_S
        for client in self._clients:
            client.tell(f"{begins_at:.6f}")
        return begins_at

    def finish(self) -> None:
        """Let the clients stop calling, and wait for the calls in flight. Raises: ChildFailed."""
        for client in self._clients:
            client.hang_up()
        for client in self._clients:
            if code := client.wait(LAST_CALLS_S + STOP_S):
                raise ChildFailed(f"{client.name} ended with exit code {code}; its errors are in {self.folder}")

    # ------------------------------------------------------------------ nodes

    def kill(self, number: int) -> None:
        """Kill -9 a node; its port refuses from then on."""
        self._command(f"refuse {number}")
        self._node(number).end()
        self._nodes[number] = None

    def start(self, number: int) -> None:
        """Start a node that is not there, and wait until it can be called."""
        self._launch(number)
        self._open(number)

    def freeze(self, number: int) -> None:
        """Stop a node where it stands."""
        self._node(number).signal(signal.SIGSTOP)

    def thaw(self, number: int) -> None:
        """Let it go on."""
        self._node(number).signal(signal.SIGCONT)

    def terminate(self, number: int) -> None:
        """Ask a node to stop, and wait until it has: it finishes what it has first. Raises: ChildFailed."""
        node = self._node(number)
        os.kill(node.process.pid, signal.SIGTERM)
        node.wait(STOP_S)
        self._command(f"refuse {number}")
        self._nodes[number] = None

    def _launch(self, number: int) -> None:
        plan = work.Plan(self.scale.shortest_ms, self.scale.longest_ms, str(self.log_path(number)), str(self.mode_path(number)))
        self._starts += 1
        name = f"node{number}-{self._starts}"
        self._nodes[number] = self._children.start(name, self.contender.node_command(), environment=plan.environment())

    def _open(self, number: int) -> None:
        said = self._node(number).ready()
        self._node_ports[number] = int(said["port"] if "port" in said else said["addresses"][0].rpartition(":")[2])
        self._command(f"accept {number} {self._node_ports[number]}")

    def _node(self, number: int) -> Child:
        node = self._nodes[number]
        if node is None:
            raise ChildFailed(f"node {number} is not running: the script is wrong")
        return node

    # ------------------------------------------------------------------ links

    def blackhole(self, number: int) -> None:
        """Let nothing through to a node or back, without closing anything."""
        self._command(f"blackhole {number}")

    def heal(self, number: int) -> None:
        """Let everything through again, what was held first."""
        self._command(f"heal {number}")

    def reset(self, number: int) -> None:
        """Cut all connections of a node with RST, and refuse new ones."""
        self._command(f"refuse {number}")
        self._command(f"reset {number}")

    def accept(self, number: int) -> None:
        """Take connections for a node again."""
        self._command(f"accept {number} {self._node_ports[number]}")

    def _command(self, line: str) -> None:
        self._relay.tell(line)
        if (answer := self._relay.hear()) != line:
            raise ChildFailed(f"the relay answered {answer!r} to {line!r}")

    # ------------------------------------------------------------------ what it uses

    def used_s(self) -> dict[str, float]:
        """Return the processor time used so far by each part, and by everybody else on this machine."""
        parts = {
            "clients": self._clients,
            "nodes": [each for each in self._nodes if each],
            "relay": [self._relay],
            "haproxy": self._proxies,
        }
        used = {
            part: cpu_s([pid for child in children for pid in family(child.process.pid)]) for part, children in parts.items() if children
        }
        everybody = busy_s()
        if everybody is not None:
            used["others"] = everybody - sum(used.values())  # counted in ticks: a little below 0 is none
        return used
