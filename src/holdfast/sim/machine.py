"""A host: a kernel, clocks, and the processes it was given.

Owns: `Host`, what users do with one, and what becomes of its processes when something happens to it. What happens *to* a host is a fault:
the methods with that meaning go through the world, which records them, and come back as `apply`.

What may never happen here: a process that goes on after its host is off.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from itertools import count
from typing import Any

from ..errors import ConfigError
from .engine import Engine
from .kernel import Kernel
from .names import Names
from .network import SimNetwork
from .process import Main, Process

Cause = Callable[..., None]


class HostClock:
    """A monotonic clock that does not run at the right rate."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.rate = 1.0
        self._true_at = self._local_at = 0.0
        self._before: list[tuple[float, float, float]] = []  # what those three were until the rate changed, oldest first

    def set_rate(self, rate: float) -> None:
        """From now on a second takes 1/rate."""
        self._before.append((self._true_at, self._local_at, self.rate))
        self._local_at = self.monotonic()
        self._true_at = self._engine.time()
        self.rate = rate

    def monotonic(self) -> float:
        """What it shows."""
        return self._local_at + (self._engine.time() - self._true_at) * self.rate

    def true_time(self, local: float) -> float:
        """When it will show that, or did, at the rate it had then."""
        true_at, local_at, rate = self._true_at, self._local_at, self.rate
        for earlier in reversed(self._before):
            if local >= local_at:
                break
            true_at, local_at, rate = earlier
        return true_at + (local - local_at) / rate


class Host:
    """A named machine. Made by `World.host`.

    Attributes:
        name: also its name in DNS. ipv4, ipv6: its addresses.
        processes: those that run, oldest first.
        network: holdfast's `Network` for code that runs here; `holdfast.serve` and `connect` find the same without it.
    """

    def __init__(
        self, engine: Engine, kernel: Kernel, names: Names, cause: Cause, made: Callable[[Process], None], descriptors: int | None
    ) -> None:
        self.name = kernel.name
        self.ipv4, self.ipv6 = kernel.addresses
        self.kernel = kernel
        self.processes: list[Process] = []
        self.network = SimNetwork()
        self._engine = engine
        self._names = names
        self._cause = cause
        self._made = made
        self._descriptors = descriptors if descriptors is not None else engine.options.descriptors
        self._clock = HostClock(engine)
        self._wall_offset_s = 0.0
        self.lost: Callable[[Process], None] = _nobody
        self._boot: list[tuple[Main, str]] = []
        self._pids = count(100)
        self._pauses = 0

    def __repr__(self) -> str:
        return f"<host {self.name} {self.ipv4} {self.ipv6}>"

    @property
    def up(self) -> bool:
        """Whether it has power."""
        return self.kernel.on

    @property
    def booted(self) -> bool:
        """Whether there is anything to start again."""
        return bool(self._boot)

    def start(self, main: Main, *, name: str | None = None, again: bool = True) -> Process:
        """Start a process that runs `await main()`, as `asyncio.run` would.

        Args:
            name: of the process; that of the function, unless given.
            again: start it once more whenever the host restarts.
        Raises: ConfigError when the host is off, or for what is no function.
        """
        if not callable(main):
            if inspect.iscoroutine(main):
                main.close()  # or Python says of it, later and elsewhere, that nobody awaited it
                called = main.__name__
                raise ConfigError(f"start: expected a function, got a coroutine: write `start({called})`, not `start({called}())`")
            raise ConfigError(f"start: expected an `async def` function without arguments, got {main!r}")
        if not self.up:
            raise ConfigError(f"host {self.name!r} is off; restart() it first")
        name = name if name is not None else getattr(main, "__name__", "main")
        process = self.prepare(name)
        if again:
            self._boot.append((main, name))
        process.begin(main)
        return process

    def prepare(self, name: str) -> Process:
        """A process without a main function yet."""
        pid = next(self._pids)
        process = Process(self._engine, self.kernel, self._names, name, pid, self._engine.streams.stream(f"cpu/{self.name}/{pid}"))
        process.descriptors = self._descriptors
        process.wall_offset_s = self._wall_offset_s
        process.clock = self._clock if self._clock.rate != 1.0 or self._clock.monotonic() != self._engine.time() else None
        process.ended = self._process_ended
        process.weigh = self._weigh  # type: ignore[method-assign]
        self._made(process)
        self.processes.append(process)
        return process

    def _process_ended(self, process: Process) -> None:
        if process in self.processes:
            self.processes.remove(process)
        self.lost(process)

    # ------------------------------------------------------------------------------------------------------------------- faults

    def kill(self) -> None:
        """kill -9 of every process: no `finally` runs; their sockets are closed by the kernel, with a reset where data was unread."""
        self._cause("kill", self)

    def power_loss(self) -> None:
        """Off, at once: peers hear nothing, and find out by their own timeouts."""
        self._cause("power_loss", self)

    def restart(self) -> None:
        """Start the processes it was given once more; a host with processes that still run loses its power first."""
        self._cause("restart", self)

    def pause(self, seconds: float) -> None:
        """The whole machine stands still for so long, kernel and clocks of its processes too; packets wait."""
        self._cause("pause", self, float(seconds))

    def clock_jump(self, seconds: float) -> None:
        """Its time of day (`time.time`) jumps."""
        self._cause("clock_jump", self, float(seconds))

    def clock_drift(self, rate: float) -> None:
        """Its clocks run at this rate from now on; 1.0 is right."""
        self._cause("clock_drift", self, float(rate))

    def limit_descriptors(self, descriptors: int) -> None:
        """Its processes may have so many descriptors open from now on."""
        self._cause("descriptors", self, int(descriptors))

    def limit_memory(self, nbytes: int) -> None:
        """It has so much for socket buffers and write buffers from now on."""
        self._cause("memory", self, int(nbytes))

    # ------------------------------------------------------------------------------------------------------ done by the world

    def apply(self, kind: str, *args: Any) -> None:
        """Let one of the faults above happen."""
        getattr(self, f"_do_{kind}")(*args)

    def _do_kill(self) -> None:
        for process in tuple(self.processes):
            process.kill()

    def _do_power_loss(self) -> None:
        if self.up:
            self.kernel.power_off()
            for process in tuple(self.processes):
                process.vanish()

    def _do_restart(self) -> None:
        if self.processes:
            self._do_power_loss()
        if not self.up:
            self.kernel.power_on()
        booting, self._boot = self._boot, []
        for main, name in booting:
            self.start(main, name=name)

    def _do_pause(self, seconds: float) -> None:
        until = self._engine.time() + seconds
        self.kernel.frozen = True
        self._pauses += 1
        for process in self.processes:
            process.hold_up(until)
        self._engine.at(until, self._thaw)

    def _thaw(self) -> None:
        self._pauses -= 1
        if not self._pauses:
            self.kernel.frozen = False
            self.kernel.wires.reopen_to(self.kernel)

    def _do_stall(self, seconds: float) -> None:
        for process in self.processes:
            process.hold_up(self._engine.time() + seconds)

    def _do_clock_jump(self, seconds: float) -> None:
        self._wall_offset_s += seconds
        for process in self.processes:
            process.wall_offset_s = self._wall_offset_s

    def _do_clock_drift(self, rate: float) -> None:
        if not rate > 0:
            raise ConfigError(f"clock_drift({rate}): expected a rate above 0; 1.0 is a clock that is right")
        self._clock.set_rate(rate)
        for process in self.processes:
            process.clock = self._clock
            if process.asleep:
                process.sleep()

    def _do_descriptors(self, descriptors: int) -> None:
        self._descriptors = descriptors
        for process in self.processes:
            process.descriptors = descriptors

    def _do_memory(self, nbytes: int) -> None:
        self.kernel.memory_bytes = nbytes

    def _weigh(self) -> None:
        """What the kernel's out-of-memory killer does: the largest process goes."""
        held = [(process.memory_bytes(), process) for process in self.processes]
        if self.kernel.buffered + sum(size for size, _ in held) > self.kernel.memory_bytes and held:
            size, largest = max(held, key=lambda each: each[0])
            if size:
                largest.kill("out of memory")

    def part(self) -> None:
        """The world is over: let go of everything that refers back to here."""
        self.kernel.power_off()
        self.kernel.links.clear()
        self.processes.clear()
        self._boot.clear()
        self._cause, self._made, self.lost = _nobody, _nobody, _nobody


def _nobody(*_: Any) -> None:
    """Who is told of faults when the world is over."""
