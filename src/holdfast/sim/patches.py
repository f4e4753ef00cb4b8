"""The parts of Python that look at the real world, replaced for as long as a world runs.

Owns: the list of what is replaced (`replacements`), and that all of it is put back, whatever happens. Everything works by the calling
thread: other threads of the program (a test runner's watchdog) find the real functions behind these names.

    clocks      time.time, monotonic, perf_counter, their _ns, sleep      show the clock of the host whose code asks; sleep holds it up
    chance      random, uuid, os.urandom, secrets                         come from the seed
    network     socket.socket, getaddrinfo and its relatives              belong to the world
    threads     Thread.start, waiting for one, pools                      raise Escape, or run the job at a drawn time
    processes   subprocess, fork, signal.signal, os.kill                  raise Escape
    identity    os.getpid; hashes of the few futures asyncio makes itself  are the same in every run

What cannot be replaced: names imported from these modules before (`from time import time`), `datetime.now()`, what C code asks for itself.
A module that is imported in the middle of a world is imported by the first world alone, which then differs: import before.
What may never happen here: a replacement that is left behind.
"""

from __future__ import annotations

import concurrent.futures
import datetime
import fcntl
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import termios
import threading
import time
import uuid
import weakref
from asyncio import base_events, tasks
from collections.abc import Callable
from typing import Any

from .. import clock as our_clock
from ..net.resolver import Resolver
from ..tasks import HandlerTask
from .engine import Engine
from .escapes import Escape
from .globals import OF_HOLDFAST, per_process
from .here import begin, end, engine_here
from .loop import InOrder
from .sockets import SimSocket, open_spare, unacknowledged

Replacement = tuple[Any, str, Any]

_THREADS = "threads are outside the simulation; use asyncio.to_thread or loop.run_in_executor, which run at a drawn virtual delay"
_WAITING = "waiting for another thread would stop the simulated world: there is none; use asyncio's own locks, events and queues"
_PROCESSES = "subprocesses are outside the simulation; start a second process of a host with `host.start(main)`"
_SIGNALS = "signals of the real system are outside the simulation; use loop.add_signal_handler, and Process.signal to send one"


class Patches:
    """`with Patches(engine):` runs with everything replaced."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._saved: list[Replacement] = []
        self._random: Any = None

    def __enter__(self) -> None:
        engine = self._engine
        begin(engine)
        try:
            new_ones = replacements(engine)  # what is wrong with the options is found before anything is replaced
        except BaseException:
            end(engine)
            raise
        self._random = random.getstate()
        random.seed(engine.streams.stream("random").getrandbits(64))
        for owner, name, new in new_ones:
            self._saved.append((owner, name, owner.__dict__.get(name, _ABSENT)))
            setattr(owner, name, new)

    def __exit__(self, *_: object) -> None:
        for owner, name, old in reversed(self._saved):
            if old is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, old)
        self._saved.clear()
        random.setstate(self._random)
        end(self._engine)


_ABSENT = object()


def replacements(engine: Engine) -> list[Replacement]:
    """All of them: whose attribute, its name, what it is during a run."""
    return [
        *_clocks(engine),
        *_chance(engine),
        *_network(),
        *_threads(),
        *_processes(),
        *_identity(engine),
        *per_process((*OF_HOLDFAST, *engine.options.per_process)),
    ]


def _inside(real: Any, simulated: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is the simulated one for code of the world, and the real one for other threads."""

    def either(*args: Any, **kwargs: Any) -> Any:
        return simulated(*args, **kwargs) if engine_here() is not None else real(*args, **kwargs)

    either.__name__ = getattr(real, "__name__", "either")
    return either


def _fence(real: Any, advice: str) -> Callable[..., Any]:
    def raises(*_: Any, **__: Any) -> Any:
        raise Escape(f"{getattr(real, '__qualname__', real)}: {advice}")

    return _inside(real, raises)


# ----------------------------------------------------------------------------------------------------------------------- clocks


class _Datetime(datetime.datetime):
    """What `holdfast.clock` asks for the date."""

    @classmethod
    def now(cls, tz: datetime.tzinfo | None = None) -> Any:
        engine = engine_here()
        if engine is None or engine.current is None:
            return datetime.datetime.now(tz)
        return datetime.datetime.fromtimestamp(engine.current.wall(), tz)  # type: ignore[attr-defined]


def _clocks(engine: Engine) -> list[Replacement]:
    def process() -> Any:
        return engine.current

    def monotonic() -> float:
        return process().loop.time()  # type: ignore[no-any-return]

    def wall() -> float:
        return process().wall()  # type: ignore[no-any-return]

    def sleep(seconds: float) -> None:
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        engine.spent += seconds

    def nanoseconds(seconds: Callable[[], float]) -> Callable[[], int]:
        return lambda: int(seconds() * 1e9)

    new: dict[str, Callable[..., Any]] = {
        "time": wall,
        "monotonic": monotonic,
        "perf_counter": monotonic,
        "sleep": sleep,
        "time_ns": nanoseconds(wall),
        "monotonic_ns": nanoseconds(monotonic),
        "perf_counter_ns": nanoseconds(monotonic),
    }
    found: list[Replacement] = [(time, name, _inside(getattr(time, name), call)) for name, call in new.items()]
    found.append((our_clock.SystemClock, "now", staticmethod(_inside(time.monotonic, monotonic))))
    found.append((our_clock, "datetime", _Datetime))
    return found


# ----------------------------------------------------------------------------------------------------------------------- chance


def _chance(engine: Engine) -> list[Replacement]:
    stream = engine.streams.stream("entropy")
    real_seed = random.Random.seed

    def urandom(size: int) -> bytes:
        return stream.randbytes(size)

    def seed(self: random.Random, a: Any = None, version: int = 2) -> None:
        if a is None and engine_here() is not None:
            a = stream.getrandbits(128)  # `random.Random()` asks the operating system otherwise
        real_seed(self, a, version)

    return [
        (os, "urandom", _inside(os.urandom, urandom)),
        (random, "_urandom", _inside(random._urandom, urandom)),  # type: ignore[attr-defined]
        (random.Random, "seed", seed),
        (uuid, "_generate_time_safe", None),
        (uuid, "_node", 0x020000000000),
        (uuid, "_last_timestamp", None),
    ]


# ---------------------------------------------------------------------------------------------------------------------- network


def _network() -> list[Replacement]:
    def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> Any:
        process = engine_here().current  # type: ignore[union-attr]
        if host and not flags & socket.AI_NUMERICHOST:
            process.engine.spent += process.chance.random() * process.engine.options.resolve_s  # type: ignore[union-attr]
        return process.names.look_up(host, port, family, type, proto, flags)  # type: ignore[union-attr]

    def getnameinfo(sockaddr: Any, flags: int) -> tuple[str, str]:
        process = engine_here().current  # type: ignore[union-attr]
        name = None if flags & socket.NI_NUMERICHOST else process.names.name_of(sockaddr[0])  # type: ignore[union-attr]
        return name or sockaddr[0], str(sockaddr[1])

    def gethostname() -> str:
        return engine_here().current.host  # type: ignore[union-attr,no-any-return]

    def gethostbyname(name: str) -> str:
        return getaddrinfo(name, 0, socket.AF_INET)[0][4][0]  # type: ignore[no-any-return]

    def ioctl(fd: Any, request: int, *args: Any) -> Any:
        number = fd if isinstance(fd, int) else fd.fileno()
        file = engine_here().current.files.get(number)  # type: ignore[union-attr]
        if file is None or request != termios.TIOCOUTQ:
            return real_ioctl(fd, request, *args)
        return unacknowledged(file).to_bytes(4, sys.byteorder)

    def getrlimit(which: int) -> tuple[int, int]:
        if which != resource.RLIMIT_NOFILE:
            return real_getrlimit(which)
        most = engine_here().current.descriptors  # type: ignore[union-attr]
        return most, most

    def os_open(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        spare = open_spare(engine_here().current, path)  # type: ignore[union-attr]
        return real_open(path, flags, *args, **kwargs) if spare is None else spare

    def os_close(fd: int) -> None:
        process: Any = engine_here().current  # type: ignore[union-attr]
        if fd in process.files:
            process.close_descriptor(fd)
        else:
            real_close(fd)

    real_ioctl, real_getrlimit, real_open, real_close = fcntl.ioctl, resource.getrlimit, os.open, os.close
    pair = "socket.socketpair: outside the simulation; connect two sockets by TCP on 127.0.0.1"
    return [
        (socket, "socket", SimSocket),
        (socket, "getaddrinfo", _inside(socket.getaddrinfo, getaddrinfo)),
        (socket, "getnameinfo", _inside(socket.getnameinfo, getnameinfo)),
        (socket, "gethostname", _inside(socket.gethostname, gethostname)),
        (socket, "gethostbyname", _inside(socket.gethostbyname, gethostbyname)),
        (socket, "socketpair", _fence(socket.socketpair, pair)),
        (fcntl, "ioctl", _inside(real_ioctl, ioctl)),
        (resource, "getrlimit", _inside(real_getrlimit, getrlimit)),
        (os, "open", _inside(real_open, os_open)),
        (os, "close", _inside(real_close, os_close)),
    ]


# ---------------------------------------------------------------------------------------------------------------------- threads


def _threads() -> list[Replacement]:
    real_start, real_wait, real_pool = threading.Thread.start, threading.Condition.wait, concurrent.futures.ThreadPoolExecutor.submit

    def start(self: threading.Thread) -> None:
        target = getattr(self, "_target", None)
        if isinstance(getattr(target, "__self__", None), Resolver):
            # The one thread of ours: it looks a name up and ends, which a job can do as well.
            process: Any = engine_here().current  # type: ignore[union-attr]
            process.loop._pool.submit(target, self._args)  # type: ignore[attr-defined]
            return
        raise Escape(f"threading.Thread.start: {_THREADS}")

    def wait(self: threading.Condition, timeout: float | None = None) -> bool:
        if timeout is None:
            raise Escape(f"threading.Condition.wait: {_WAITING}")
        engine_here().spent += max(0.0, timeout)  # type: ignore[union-attr]
        return False

    def submit(self: Any, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        loop = engine_here().current.loop  # type: ignore[union-attr]
        promise: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def job() -> None:
            if not promise.set_running_or_notify_cancel():
                return
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:
                promise.set_exception(error)
            else:
                promise.set_result(result)

        loop._pool_of(self).submit(job, ())
        return promise

    return [
        (threading.Thread, "start", _inside(real_start, start)),
        (threading.Condition, "wait", _inside(real_wait, wait)),
        (concurrent.futures.ThreadPoolExecutor, "submit", _inside(real_pool, submit)),
    ]


# -------------------------------------------------------------------------------------------------------------------- processes


def _processes() -> list[Replacement]:
    def getpid() -> int:
        process = engine_here().current  # type: ignore[union-attr]
        return getattr(process, "pid", 1)

    def kill(pid: int, number: int) -> None:
        process: Any = engine_here().current  # type: ignore[union-attr]
        if pid != process.pid:
            raise Escape(f"os.kill({pid}): {_SIGNALS}")
        process.signal(number)

    fenced: list[tuple[Any, str, str]] = [
        (subprocess.Popen, "__init__", _PROCESSES),
        (os, "fork", _PROCESSES),
        (os, "system", _PROCESSES),
        (os, "posix_spawn", _PROCESSES),
        (signal, "signal", _SIGNALS),
        (signal, "set_wakeup_fd", _SIGNALS),
    ]
    found: list[Replacement] = [(owner, name, _fence(getattr(owner, name), advice)) for owner, name, advice in fenced]
    return [*found, (os, "getpid", _inside(os.getpid, getpid)), (os, "kill", _inside(os.kill, kill))]


# --------------------------------------------------------------------------------------------------------------------- identity


class _Server(base_events.Server):
    """asyncio's server; since 3.13 it closes its clients in the order of a set."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if hasattr(self, "_clients"):
            self._clients = InOrder()


def _identity(engine: Engine) -> list[Replacement]:
    numbers: dict[int, tuple[int, weakref.ref[Any]]] = {}

    def by_number(self: Any) -> int:
        key = id(self)
        found = numbers.get(key)
        if found is None:
            found = numbers[key] = (engine.number(), weakref.ref(self, lambda _: numbers.pop(key, None)))
        return found[0]

    gathering: Any = tasks._GatheringFuture  # type: ignore[attr-defined]
    return [
        (base_events, "Server", _Server),
        (gathering, "__hash__", by_number),
        (HandlerTask, "__hash__", by_number),
    ]
