"""The event loop of a simulated process: asyncio's own selector loop, over a selector and sockets that are not the kernel's.

Owns: what differs from asyncio: where time comes from, who calls the callbacks (`process.py`), tasks and futures that hash by their number,
executors without threads, and the fences. Transports, servers, `sock_*`, DNS through the executor and TLS are asyncio's, unmodified: that
is the level at which the simulation sits, and what makes it keep to asyncio's orders.

What may never happen here: an order that asyncio does not allow; an iteration order that depends on addresses.
"""

from __future__ import annotations

import asyncio
import heapq
import selectors
import threading
import weakref
from asyncio import events, selector_events
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from .cpu import Cpu
from .escapes import Escape
from .executor import Pool


class SimFuture(asyncio.Future):  # type: ignore[type-arg]
    """A future that hashes by its number, so that a set of futures has the same order in every run."""

    __slots__ = ("_number",)
    _number: int

    def __hash__(self) -> int:
        return self._number


class SimTask(asyncio.Task):  # type: ignore[type-arg]
    """A task that hashes by its number, and has a name that does not depend on what ran before."""

    def __init__(self, coro: Any, *, loop: SimLoop, name: str | None = None, **options: Any) -> None:
        self._number = loop._engine.number()
        # What functions a coroutine function stands in differs between Pythons (comprehensions), and inside asyncio. The trace must not.
        self._label = getattr(coro, "__qualname__", type(coro).__name__).rpartition(">.")[2]
        super().__init__(coro, loop=loop, name=loop._next_name() if name is None else name, **options)

    def __hash__(self) -> int:
        return self._number


# Programs see these names: in a repr, and in what the loop says of an error that nobody retrieved.
SimFuture.__name__, SimTask.__name__ = "Future", "Task"


class _Map(Mapping[Any, selectors.SelectorKey]):
    """The keys by descriptor or by what has one; asyncio asks it this way since 3.13."""

    def __init__(self, keys: dict[int, selectors.SelectorKey]) -> None:
        self._keys = keys

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj if isinstance(fileobj, int) else fileobj.fileno()]

    def get(self, fileobj: Any, default: Any = None) -> Any:
        return self._keys.get(fileobj if isinstance(fileobj, int) else fileobj.fileno(), default)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._keys)


class SimSelector(selectors.BaseSelector):
    """What asyncio registers descriptors with. `Process.step` asks the sockets themselves, and not this."""

    def __init__(self, process: Cpu) -> None:
        self._process = process
        self.keys: dict[int, selectors.SelectorKey] = {}
        self._map = _Map(self.keys)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd not in self._process.files:
            raise Escape(f"descriptor {fd} is not one of this simulated process; only sockets made in the simulation can be waited for")
        key = self.keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        self._process.watch(fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.keys.pop(fileobj if isinstance(fileobj, int) else fileobj.fileno())

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        key = self.keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        self._process.watch(fd)
        return key

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return self._process.poll()

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self.keys[fileobj if isinstance(fileobj, int) else fileobj.fileno()]

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map


class InOrder:
    """The part of a WeakSet that asyncio uses for what it closes at the end, in the order in which things came."""

    def __init__(self) -> None:
        self._items: dict[int, weakref.ref[Any]] = {}

    def add(self, item: Any) -> None:
        key, items = id(item), self._items
        items[key] = weakref.ref(item, lambda gone: items.pop(key, None) if items.get(key) is gone else None)

    def discard(self, item: Any) -> None:
        self._items.pop(id(item), None)

    def clear(self) -> None:
        self._items.clear()

    def copy(self) -> list[Any]:
        return list(self)

    def __len__(self) -> int:
        return len(self._items)

    def __iter__(self) -> Iterator[Any]:
        for ref in tuple(self._items.values()):
            item = ref()
            if item is not None:
                yield item


class SimLoop(selector_events.BaseSelectorEventLoop):
    """The loop of one process. Made by `Process`; one loop per process, as in the real world.

    So state that libraries keep per loop is kept per process, `asyncio.all_tasks()` shows this process alone, and code that runs in an
    empty context still knows its host.
    """

    # What asyncio's own loop has and does not tell the type checker.
    _closed: bool
    _debug: bool
    _default_executor: Any
    _executor_shutdown_called: bool
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _selector: SimSelector
    _stopping: bool
    _task_factory: Any

    def __init__(self, process: Cpu) -> None:
        self._process = process
        self._engine = process.engine
        self._names = 0
        super().__init__(SimSelector(process))
        self._clock_resolution = 1e-9
        self._asyncgens = InOrder()
        self._pool = Pool(process, process.engine.options.executor_workers)
        self._pools: weakref.WeakKeyDictionary[Any, Pool] = weakref.WeakKeyDictionary()

    # --------------------------------------------------------------------------------------------------------- time and callbacks

    def time(self) -> float:
        """The monotonic clock of the host, in seconds."""
        clock = self._process.clock
        return self._engine.now + self._engine.spent if clock is None else clock.monotonic()

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """As in asyncio; it also wakes a process that sleeps."""
        if self._debug or self._closed:
            if self._engine.over:
                return events.Handle(callback, args, self, context)
            handle: asyncio.Handle = super().call_soon(callback, *args, context=context)
        else:
            handle = events.Handle(callback, args, self, context)
            self._ready.append(handle)
        if self._process.asleep:
            self._process.wake()
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """As `call_soon`; there is one thread. What an executor job calls comes when the job has got that far."""
        if threading.get_ident() != self._engine.thread:
            raise Escape("call_soon_threadsafe from a real thread: the simulation has none; use asyncio.to_thread or run_in_executor")
        if self._engine.spent > 0 and self._engine.current is self._process and self._process.in_thread:
            self._check_closed()
            handle = events.Handle(callback, args, self, context)
            self._engine.at(self._engine.time(), self._arrived, handle)
            return handle
        return self.call_soon(callback, *args, context=context)

    def _arrived(self, handle: asyncio.Handle) -> None:
        if self._process.alive and not self._closed:
            self._ready.append(handle)
            if self._process.asleep:
                self._process.wake()

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        """As in asyncio; a process that sleeps learns of an earlier time to wake."""
        if self._debug or self._closed:
            if self._engine.over:
                return events.TimerHandle(when, callback, args, self, context)
            timer: asyncio.TimerHandle = super().call_at(when, callback, *args, context=context)
        else:
            if when is None:
                raise TypeError("when cannot be None")
            timer = events.TimerHandle(when, callback, args, self, context)
            heapq.heappush(self._scheduled, timer)
            timer._scheduled = True  # type: ignore[attr-defined]
        if self._process.asleep:
            self._process.sleep()
        return timer

    def _check_closed(self) -> None:
        if not self._engine.over:  # what is cleaned away after the end of the world may call what it likes
            super()._check_closed()  # type: ignore[misc]

    def _run_once(self) -> None:
        """One turn of this loop; the rest of the world goes on meanwhile."""
        if self._stopping and self._process.asleep:
            self._process.wake()
        self._engine.run_turn(self._process)

    def __del__(self) -> None:
        """Nothing real is left open by a loop that is not closed: asyncio's warning would say so."""

    def _make_self_pipe(self) -> None:
        """There are no threads to be woken by."""

    def _close_self_pipe(self) -> None:
        """See `_make_self_pipe`."""

    def _write_to_self(self) -> None:
        """See `_make_self_pipe`."""

    # ------------------------------------------------------------------------------------------------------------ tasks, futures

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        future = SimFuture(loop=self)
        future._number = self._engine.number()
        return future

    def create_task(self, coro: Any, **options: Any) -> asyncio.Task[Any]:
        """A task of this loop."""
        self._check_closed()
        if self._task_factory is None:
            return SimTask(coro, loop=self, **options)
        name = options.pop("name", None)
        task: asyncio.Task[Any] = self._task_factory(self, coro, **{key: value for key, value in options.items() if value is not None})
        if name is not None:
            task.set_name(name)
        return task

    def set_task_factory(self, factory: Any) -> None:
        """As in asyncio; its eager factory makes tasks that hash by number here too."""
        if factory is not None and factory is getattr(asyncio, "eager_task_factory", None):
            factory = _eager
        super().set_task_factory(factory)

    def _next_name(self) -> str:
        self._names += 1
        return f"Task-{self._names}"

    # ---------------------------------------------------------------------------------------------------------------- executors

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run `func` in this thread, at a drawn time; what it sleeps becomes the time at which it is done. See `executor.py`."""
        self._check_closed()
        if self._debug:
            self._check_callback(func, "run_in_executor")  # type: ignore[attr-defined]
        if executor is None:
            if self._executor_shutdown_called:
                raise RuntimeError("Executor shutdown has been called")
            executor = self._default_executor
        return self._pool_of(executor).submit(func, args)

    def _pool_of(self, executor: Any) -> Pool:
        if executor is None:
            return self._pool
        workers = getattr(executor, "_max_workers", None)
        if workers is None or hasattr(executor, "_mp_context"):
            raise Escape(
                f"run_in_executor with {type(executor).__name__}: the simulation has no processes; use a ThreadPoolExecutor or None"
            )
        pool = self._pools.get(executor)
        if pool is None:
            pool = self._pools[executor] = Pool(self._process, workers)
        return pool

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:
        """Wait until its jobs are done. Cancel: they go on."""
        self._executor_shutdown_called = True
        await self._pool.idle()

    async def shutdown_asyncgens(self) -> None:
        """As in asyncio, in the order in which they were begun. Cancel: some stay open."""
        self._asyncgens_shutdown_called = True
        closing, failed = self._asyncgens.copy(), []
        self._asyncgens.clear()
        for generator in closing:
            try:
                await generator.aclose()
            except Exception as error:
                failed.append((generator, error))
        for generator, raised in failed:
            self.call_exception_handler(
                {
                    "message": f"an error occurred during closing of asynchronous generator {generator!r}",
                    "exception": raised,
                    "asyncgen": generator,
                }
            )

    # ------------------------------------------------------------------------------------------------------------------- signals

    def add_signal_handler(self, sig: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
        """Call it when `Process.signal` sends that signal; without a handler the process dies of it."""
        self._process.signals[int(sig)] = (callback, args)

    def remove_signal_handler(self, sig: int) -> bool:
        """Back to dying of it."""
        return self._process.signals.pop(int(sig), None) is not None

    # -------------------------------------------------------------------------------------------------------------------- fences

    async def subprocess_exec(self, *_: Any, **__: Any) -> Any:
        """Not in the simulation. Raises: Escape. Cancel: loses nothing."""
        raise Escape("subprocesses are outside the simulation; start a second process of a host with `host.start(main)`")

    subprocess_shell = subprocess_exec

    async def connect_read_pipe(self, *_: Any, **__: Any) -> Any:
        """Not in the simulation. Raises: Escape. Cancel: loses nothing."""
        raise Escape("pipes are outside the simulation; connect two processes by TCP on 127.0.0.1")

    connect_write_pipe = connect_read_pipe

    async def create_unix_connection(self, *_: Any, **__: Any) -> Any:
        """Not in the simulation. Raises: Escape. Cancel: loses nothing."""
        raise Escape("Unix sockets need a file system, which the simulation has not; use TCP on 127.0.0.1")

    create_unix_server = create_unix_connection


def _eager(loop: SimLoop, coro: Any, **options: Any) -> SimTask:
    return SimTask(coro, loop=loop, eager_start=True, **options)
