"""A world: hosts, the network between them, what goes wrong in it, and one run of a scenario.

Owns: `World` and `run_world`. The parts: `engine.py` has the time; `loop.py` and `cpu.py` run a process; `kernel.py`, `tcp.py`, `udp.py`
and `sockets.py` are what a program takes for the system; `links.py` is what lies between; `machine.py` is a host, `happenings.py` what goes
wrong, `patches.py` the rest of Python.

    async def scenario(world: World) -> None:
        server, client = world.host("server"), world.host("client")
        server.start(serve_forever)                  # an `async def` without arguments, as for asyncio.run
        calls = client.start(make_calls)
        await world.sleep(0.2)
        world.partition(server, client)
        await world.sleep(5)
        world.repair(server, client)
        assert await calls == 10                     # waits for the process, and gives what its main returned

    run = run_world(scenario, seed=7)
    assert run.failure is None, run.story()

The scenario itself runs on a host of its own, `driver`, and may use the network too.
What may never happen here: two runs of one seed that differ.
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from ..clock import Streams
from ..errors import ConfigError
from .engine import Engine
from .faults import Fault, FaultPlan
from .happenings import Happenings
from .kernel import Kernel, family_of
from .links import Links
from .machine import Host
from .names import Names, literal
from .options import WorldOptions
from .patches import Patches
from .process import Process
from .reasons import pending, went_wrong
from .trace import Event, Trace

DRIVER = "driver"
QUIET_FOR_S = 1.0
QUIET_LOOK_S = 0.25
AT_ONCE_S = 0.02
"""A program that raises so soon, before anything went wrong, has not begun: it is a mistake, and not one that a fault found."""

EVENTS_TOLD = 20

COLLECT_EVERY = 32
"""Worlds of this process after which everything is looked through. A world parts its circles when it ends, but not those that go through
what is still held then, such as its outcome; frozen with all else, they would stay for ever."""

Who = Host | str
Scenario = Callable[["World"], Awaitable[object]]

_worlds = itertools.count(1)


class WorldRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a run came to.

    Attributes:
        seed: of the world.
        digest: of its trace: equal for equal runs.
        failure: what the scenario raised, or what a process that nobody waited for ended with; None when all is well.
        details: the traceback of the failure, as text.
        plan: the faults that happened, those the scenario caused among them; with the same seed and scenario it repeats the run.
        sometimes: how often each point was reached (`World.reached`).
        unhandled: errors that reached the loop of a process and nobody handled, with the name of the host.
        virtual_s: how long the world lasted. steps: how many callbacks it ran.
        events: its trace, or the newest part of it; see `trace.py`.
    """

    seed: int
    digest: str
    failure: BaseException | None
    details: str
    plan: FaultPlan
    sometimes: Counter[str]
    unhandled: tuple[str, ...]
    virtual_s: float
    steps: int
    events: list[Event]

    def story(self) -> str:
        """A failed run for people: what failed, the faults, the last events."""
        lines = [f"seed {self.seed}: {type(self.failure).__name__}: {self.failure}" if self.failure else f"seed {self.seed}: all is well"]
        lines += [f"  fault  {fault}" for fault in self.plan]
        lines += [
            f"  {at_s:12.6f}  {host:<10} {kind} {detail if detail is not None else ''}"
            for at_s, kind, host, detail in self.events[-EVENTS_TOLD:]
        ]
        return "\n".join([*lines, self.details])


class World:
    """One seed, one world.

    Args:
        seed: decides everything the plan does not.
        plan: faults that happen by themselves, each at its time. A recorded one also stands for the scenario's own (see `faults.py`).
        options: what the world is like.

    Attributes:
        rng: named streams of random numbers for the scenario: `world.rng.stream("workload")`.
        trace: what happened so far; `trace.digest()`.
        names: DNS; `world.names.add("db.internal", ["10.0.0.3"])`.
        sometimes: how often each point was reached.
        unhandled: errors that reached a loop and nobody handled.
    """

    def __init__(self, seed: int, *, plan: FaultPlan | None = None, options: WorldOptions | None = None) -> None:
        self.seed = seed
        self.options = options if options is not None else WorldOptions()
        self._engine = Engine(seed, self.options)
        self.rng = Streams(seed ^ 0x5EED)
        self.trace: Trace = self._engine.trace
        self.names = Names()
        self.sometimes: Counter[str] = Counter()
        self.unhandled: list[str] = []
        self._links = Links(self._engine)
        self._kernels: dict[str, Kernel] = {}
        self._hosts: dict[str, Host] = {}
        self._processes: list[Process] = []
        self._stillborn: Callable[[Process], None] = lambda process: None
        self._happenings = Happenings(self._engine, self._links, self._hosts, DRIVER, plan if plan is not None else FaultPlan())
        self._engine.describe_pending = self._pending
        self.driver = self.host(DRIVER)
        self._driver = self.driver.prepare(DRIVER)

    # -------------------------------------------------------------------------------------------------------------------- hosts

    def host(
        self,
        name: str,
        *,
        ipv4: str | None = None,
        ipv6: str | None = None,
        descriptors: int | None = None,
        memory_bytes: int | None = None,
    ) -> Host:
        """The host of that name; made, switched on, when it is asked for first. It knows the names of all others.

        Args:
            ipv4, ipv6: its addresses, 10.0.0.n and fd00::n unless given.
            descriptors: how many each of its processes may have open. memory_bytes: for socket buffers and write buffers.
        Raises: ConfigError for arguments that make no sense, or for a host that exists and is to be changed.
        """
        found = self._hosts.get(name)
        if found is not None:
            if (ipv4, ipv6, descriptors, memory_bytes) != (None, None, None, None):
                raise ConfigError(f"host {name!r} exists; give its addresses and budgets where it is made, or use its limit_ methods")
            return found
        if not name or "," in name:
            raise ConfigError(f"host name {name!r}: expected a name without commas")
        number = len(self._hosts) + 1
        addresses = (
            self._address(ipv4, f"10.0.{number // 250}.{number % 250}", 4),
            self._address(ipv6, f"fd00::{number:x}", 6),
        )
        kernel = Kernel(self._engine, self._kernels, self._links, name, addresses)
        if memory_bytes is not None:
            kernel.memory_bytes = memory_bytes
        for address in addresses:
            self._kernels[address] = kernel
        self.names.add(name, addresses)
        made = self._hosts[name] = Host(self._engine, kernel, self.names, self._cause, self._made, descriptors)
        made.lost = self._lost
        return made

    def _lost(self, process: Process) -> None:
        soon = self.now() - process.began_at <= AT_ONCE_S
        if isinstance(process.failure, Exception) and soon and not process.looked_at and not self._happenings.applied:
            self._stillborn(process)

    def _address(self, given: str | None, drawn: str, family: int) -> str:
        address = literal(given) if given is not None else drawn
        if address is None or family_of(address) != family or address in self._kernels:
            raise ConfigError(f"address {given!r}: expected an IPv{family} address that no other host has")
        return address

    def _made(self, process: Process) -> None:
        process.unhandled = lambda host, text: self.unhandled.append(f"{host}: {text}")
        self._processes.append(process)

    @property
    def hosts(self) -> tuple[Host, ...]:
        """All hosts but the scenario's own."""
        return tuple(host for name, host in self._hosts.items() if name != DRIVER)

    # --------------------------------------------------------------------------------------------------------------------- time

    def now(self) -> float:
        """Virtual seconds since the world began."""
        return self._engine.time()

    async def sleep(self, seconds: float) -> None:
        """Let the world go on for so long. Cancel: loses nothing."""
        await asyncio.sleep(seconds)

    async def settle(self, within_s: float = 60.0) -> bool:
        """End all faults for good: links are repaired, hosts that are off or empty restart, no fault of the plan comes any more; then wait.

        Pauses and stalls end when they would; budgets and clocks stay as they are.

        Returns: True once nothing with content was sent for a second and nothing waits; False when that did not come within `within_s`,
            as when hosts go on talking.
        Cancel: the faults stay ended.
        """
        self._happenings.heal()
        until, quiet_since, carried = self.now() + within_s, self.now(), -1
        while self.now() < until:
            if self._links.carried != carried or self._links.waiting():
                carried, quiet_since = self._links.carried, self.now()
            if self.now() - quiet_since >= QUIET_FOR_S:
                return True
            await asyncio.sleep(min(QUIET_LOOK_S, until - self.now()))
        return False

    def reached(self, point: str) -> None:
        """A point that some world of a campaign must reach was reached."""
        self.sometimes[point] += 1
        process = self._engine.current
        self._engine.record("reached", process.host if process is not None else DRIVER, str(point))  # type: ignore[attr-defined]

    # -------------------------------------------------------------------------------------------------------------------- links

    def link(
        self,
        a: Who | Iterable[Who],
        b: Who | Iterable[Who],
        *,
        latency_s: float | None = None,
        jitter_s: float | None = None,
        bandwidth_bytes_per_s: float | None = None,
        loss: float | None = None,
        duplicate: float | None = None,
        reorder: float | None = None,
        one_way: bool = False,
    ) -> None:
        """Change what the links between two hosts, or two groups of them, are like; what is not given stays. See `Shape`.

        Raises: ConfigError for a negative time, a chance that is none, a bandwidth that is not positive.
        """
        asked = {
            "latency_s": latency_s,
            "jitter_s": jitter_s,
            "bandwidth_bytes_per_s": bandwidth_bytes_per_s,
            "loss": loss,
            "duplicate": duplicate,
            "reorder": reorder,
        }
        changes = {name: value for name, value in asked.items() if value is not None}
        for name, value in changes.items():
            if value < 0 or (name in ("loss", "duplicate", "reorder") and value > 1) or (name[0] == "b" and value == 0):
                raise ConfigError(f"link: {name}={value}; expected seconds from 0, a chance from 0 to 1, or bytes per second above 0")
        for link in self._happenings.between(self._names_of(a), self._names_of(b), one_way=one_way):
            link.shape = msgspec.structs.replace(link.shape, **changes)

    def _names_of(self, who: Who | Iterable[Who]) -> str:
        each = [who] if isinstance(who, str | Host) else list(who)
        return ",".join(one if isinstance(one, str) else one.name for one in each)

    # ------------------------------------------------------------------------------------------------------------------- faults

    def partition(self, a: Who | Iterable[Who], b: Who | Iterable[Who], *, one_way: bool = False) -> None:
        """Let nothing through from a to b, nor back unless `one_way`. Datagrams are lost; streams go on when it is repaired."""
        self._cause("partition", a, self._names_of(b), one_way)

    def hold(self, a: Who | Iterable[Who], b: Who | Iterable[Who]) -> None:
        """Keep all packets between them; nothing is lost."""
        self._cause("hold", a, self._names_of(b))

    def release(self, a: Who | Iterable[Who], b: Who | Iterable[Who]) -> None:
        """Let what was held arrive, at once and in order."""
        self._cause("release", a, self._names_of(b))

    def repair(self, a: Who | Iterable[Who], b: Who | Iterable[Who]) -> None:
        """End partition and hold between them. What TCP sends again comes when its back-off says."""
        self._cause("repair", a, self._names_of(b))

    def reset(self, a: Who | Iterable[Who], b: Who | Iterable[Who]) -> None:
        """Reset every connection between them, at both ends."""
        self._cause("reset", a, self._names_of(b))

    def stall(self, host: Who, seconds: float) -> None:
        """Give the processes of a host no processor for so long; its kernel goes on answering."""
        self._cause("stall", host, float(seconds))

    def inject(self, fault: Fault) -> None:
        """Let any fault happen now, whatever its time says."""
        self._cause(fault.kind, fault.target.split(","), *fault.args)

    def _cause(self, kind: str, target: Who | Iterable[Who], *args: Any) -> None:
        self._happenings.cause(kind, self._names_of(target), *args)

    # ------------------------------------------------------------------------------------------------------------------ the run

    @contextmanager
    def running(self) -> Iterator[None]:
        """Inside, this world is what Python's clocks, sockets and dice belong to, and the garbage collector runs only when it says so."""
        was_on = gc.isenabled()
        gc.disable()
        if next(_worlds) % COLLECT_EVERY == 0:
            gc.collect()
        gc.freeze()  # what exists already is not ours to look through again and again
        try:
            with Patches(self._engine):
                self._engine.current = self._driver
                try:
                    yield
                finally:
                    self._dismantle()
        finally:
            gc.unfreeze()
            if was_on:
                gc.enable()

    def run(self, scenario: Scenario) -> WorldRun:
        """Run the scenario to its end, once. Raises: what must not be held back: KeyboardInterrupt."""
        failure: BaseException | None = None
        run: WorldRun | None = None
        with self.running():
            try:
                self._driver.loop.run_until_complete(self._driver.life(lambda: scenario(self)))
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                failure = error
            run = self._report(failure)
        return run

    def _report(self, failure: BaseException | None) -> WorldRun:
        if failure is None:
            for process in self._processes:
                if process.failure is not None and not process.looked_at:
                    failure = process.failure
                    failure.add_note(f"in process {process.name!r} of host {process.host!r}, which nobody waited for")
                    break
        engine = self._engine
        engine.record("end", DRIVER, type(failure).__name__ if failure is not None else None)
        digest = self.trace.digest()
        engine.over = True
        return WorldRun(
            seed=self.seed,
            digest=digest,
            failure=failure,
            details="".join(traceback.format_exception(failure)) if failure is not None else "",
            plan=FaultPlan(tuple(self._happenings.applied), recorded=True),
            sometimes=Counter(self.sometimes),
            unhandled=tuple(self.unhandled),
            virtual_s=engine.now,
            steps=engine.steps,
            events=list(self.trace.events),
        )

    def _pending(self) -> str:
        """The tasks that wait, for the message of a deadlock."""
        return pending(self._processes)

    def _went_wrong(self) -> list[str]:
        return went_wrong(self._processes, self.unhandled, self.names, self.hosts)

    def _dismantle(self) -> None:
        engine = self._engine
        engine.over = True
        with warnings.catch_warnings(), _silent():
            warnings.simplefilter("ignore")  # what a killed process left open is no news
            for process in self._processes:
                asyncio._set_running_loop(process.loop)
                engine.current = process
                process.dismantle()
            asyncio._set_running_loop(None)
            # What refers to one another in a circle is parted by hand: then this collection finds all there was, and the next world begins
            # with nothing of this one in memory.
            for process in self._processes:
                process.part()
            for host in self._hosts.values():
                host.part()
            self._processes.clear()
            engine.heap.clear()
            engine.current, engine.describe_pending = None, str
            del self._driver
            gc.collect()


@contextmanager
def _silent() -> Iterator[None]:
    """What the `finally` of code that is long dead has to say is not logged: it would read as if it had run in the world."""
    logging: Any = sys.modules.get("logging")  # if nobody has imported it, nobody logs
    before = logging.root.manager.disable if logging is not None else 0
    if logging is not None:
        logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        if logging is not None:
            logging.disable(before)


def run_world(scenario: Scenario, seed: int, *, plan: FaultPlan | None = None, options: WorldOptions | None = None) -> WorldRun:
    """Run `scenario(world)` in a new world, to its end. See `World` and `WorldRun`."""
    return World(seed, plan=plan, options=options).run(scenario)
