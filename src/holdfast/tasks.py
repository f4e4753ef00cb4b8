"""Tasks, and who owns them: the only file that makes any.

Owns: `Scope`, which every background task belongs to, and `HandlerTask`, which runs a handler without paying for a task until it
suspends. Nothing here knows calls, bytes or services.

Theory of HandlerTask. Making an asyncio.Task and waiting for the loop to start it is among the dearest things a small call could need
(reference: performance.md, "no Task per request"). So a handler's coroutine is stepped once by hand, in the callback that brought the
call, and most handlers are over by then. But while it runs, `asyncio.current_task()` must be a task that can be cancelled:
asyncio.timeout, TaskGroup and anyio keep that object and come back to it later. Therefore the object is a real asyncio.Task from the
start, only *uninitialised*: cancel(), uncancel() and cancelling() work on it as they are, everything else initialises it on demand. If the
coroutine suspends, `Task.__init__` runs on that same object with the rest of the coroutine: from then on it is a C task like any other.
`tests/test_tasks.py` holds it to what a task made by `create_task` does; on a Python we have not tested this on, a plain task is made.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import types
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context
from typing import Any, Protocol

SUSPENDED: Any = object()
"""What `HandlerTask.run` returns when the coroutine did not end in its first step."""

INLINE_STEPS = sys.version_info < (3, 14)
"""Whether handlers are stepped inline. The trick leans on how CPython 3.11 to 3.13 build a task; later ones get a plain task."""


class Scope:
    """Owns tasks: none outlives it, and what they raise is told to somebody.

    Args:
        on_error: told of every exception a task ends with, cancellation apart.
    """

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self._on_error = on_error
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coro: Coroutine[Any, Any, Any], *, name: str | None = None, context: Context | None = None) -> asyncio.Task[Any]:
        """Start a task. After `close` it is cancelled before its first step."""
        task = asyncio.get_running_loop().create_task(coro, name=name, context=context)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        if self._closed:
            task.cancel()
        return task

    async def close(self, *, grace_s: float) -> int:
        """Cancel everything and wait for it, at most `grace_s` seconds.

        Returns: how many tasks had not ended by then; they stay cancelled and are no longer waited for.
        Cancel: the tasks stay cancelled; only the waiting ends.
        """
        self._closed = True
        current = asyncio.current_task()
        waiting = [task for task in self._tasks if task is not current]
        for task in waiting:
            task.cancel()
        if not waiting:
            return 0
        _, late = await asyncio.wait(waiting, timeout=grace_s)
        return len(late)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled():
            error = task.exception()
            if error is not None:
                self._on_error(error)


class HandlerOwner(Protocol):
    """Who is told how a handler ended that had suspended; called exactly once for each, in the handler's own last step."""

    def handler_returned(self, task: HandlerTask, result: Any) -> None: ...
    def handler_raised(self, task: HandlerTask, error: BaseException) -> None: ...


class HandlerTask(asyncio.Task[Any]):
    """The task of one handler; see the theory at the top of this file.

    Make it with `new_handler_task`, then `run` it at once. Attributes: `call` is whatever the owner wants to find on it.
    """

    __slots__ = ("_awaits", "_coro_", "_ctx", "_first", "_loop_", "_made", "_owner", "call", "suspended")

    # ------------------------------------------------------------------ the first step

    def run(  # the task itself is initialised in _make, if ever; a constructor of our own would cost a call
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any],
        owner: HandlerOwner,
        call: Any,
        context: Context,
        mark: Callable[[Any], object],
    ) -> Any:
        """Run a coroutine up to its end or its first suspension, in that context, after `mark(call)` in it.

        Returns: its result, or SUSPENDED: then it goes on as a task, and the owner is told how it ends.
        Raises: what the coroutine raised. Must be called once, from a callback of the loop, not from inside a task.
        """
        self._loop_ = loop
        self._coro_ = coro
        self._owner = owner
        self.call = call
        self._ctx = context
        self._made = self.suspended = False
        if not INLINE_STEPS:
            return self._start_later(mark)
        _enter_task(loop, self)
        try:
            context.run(mark, call)
            first = context.run(coro.send, None)
        except StopIteration as stop:
            _leave_task(loop, self)
            result = self._first = stop.value  # for who kept the task and asks it later
            return result
        except BaseException:
            _leave_task(loop, self)
            self._first = None
            raise
        _leave_task(loop, self)
        self.suspended = True
        self._first = first
        self._awaits = getattr(first, "_asyncio_future_blocking", False)
        if self._awaits:
            # `await` marks the future for the task to take the mark off, and fails on one that has it: others may await the same future
            # before this task's first step, which marks it again.
            first._asyncio_future_blocking = False
        self._make()
        return SUSPENDED

    def _start_later(self, mark: Callable[[Any], object]) -> Any:
        """Be a plain task from the beginning: the loop takes the first step too."""
        self._ctx.run(mark, self.call)
        self.suspended = True
        self._first, self._awaits = None, False
        self._make()
        return SUSPENDED

    def _make(self) -> None:
        """Make this a real task, which goes on where the coroutine stands (or, when it is over, ends)."""
        if self._made:
            return
        self._made = True
        cancels, must_cancel, message = super().cancelling(), self._must_cancel, self._cancel_message  # type: ignore[attr-defined]
        rest = _rest_of(self)
        rest.send(None)  # to its first yield: a task cancelled before its first step must still reach the coroutine
        super().__init__(rest, loop=self._loop_, context=self._ctx)
        for _ in range(cancels):
            super().cancel(message)
        if must_cancel and not cancels:
            super().cancel(message)
            super().uncancel()

    # ------------------------------------------------------------------ a task in every other respect

    def get_coro(self) -> Any:
        return self._coro_

    def get_context(self) -> Context:
        return self._ctx

    def get_loop(self) -> asyncio.AbstractEventLoop:
        return self._loop_

    def get_name(self) -> str:
        self._make()
        return super().get_name()

    def set_name(self, value: object) -> None:
        self._make()
        super().set_name(value)

    def done(self) -> bool:
        self._make()
        return super().done()

    def cancelled(self) -> bool:
        self._make()
        return super().cancelled()

    def result(self) -> Any:
        self._make()
        return super().result()

    def exception(self) -> BaseException | None:
        self._make()
        return super().exception()

    def add_done_callback(self, fn: Any, /, *, context: Context | None = None) -> None:
        self._make()
        super().add_done_callback(fn, context=context)

    def remove_done_callback(self, fn: Any, /) -> int:
        self._make()
        return super().remove_done_callback(fn)

    def get_stack(self, *, limit: int | None = None) -> list[Any]:
        self._make()
        return super().get_stack(limit=limit)

    def print_stack(self, *, limit: int | None = None, file: Any = None) -> None:
        self._make()
        super().print_stack(limit=limit, file=file)

    def __await__(self) -> Generator[Any, None, Any]:
        self._make()
        return super().__await__()

    __iter__ = __await__

    def __repr__(self) -> str:
        return f"<HandlerTask {'suspended' if self.suspended else 'inline'} coro={getattr(self._coro_, '__qualname__', '?')}()>"


new_handler_task: Callable[[], HandlerTask] = functools.partial(HandlerTask.__new__, HandlerTask)
"""Make the task of a handler; `run` gives it everything it has."""


async def _rest_of(task: HandlerTask) -> Any:
    """A task wants a coroutine; what goes on with a started one must be a generator (`await` refuses it)."""
    return await _rest(task)


@types.coroutine
def _rest(task: HandlerTask) -> Generator[Any, None, Any]:
    """The rest of a handler, as the coroutine of the task it has become.

    The coroutine already yielded once, to `run`; what it yielded is yielded again here, so that the task waits for it.
    """
    error: BaseException | None = None
    try:
        yield None  # primed in _make; the task's first step comes in here
    except asyncio.CancelledError as cancel:
        error = cancel
    if not task.suspended:
        return task._first  # it ended inline, after somebody had asked for a real task
    coro, pending = task._coro_, task._first
    if error is not None and pending is not None and pending.cancel(*error.args):
        error = None  # as in a task: the future it waits for is cancelled, and that wakes it
    if task._awaits:
        pending._asyncio_future_blocking = True
    try:
        while True:
            if error is not None:
                pending = coro.throw(error)
                error = None
            try:
                yield pending
            except BaseException as thrown:
                error = thrown
            else:
                result = yield from coro
                break
    except StopIteration as stop:
        result = stop.value
    except asyncio.CancelledError as cancel:
        task._owner.handler_raised(task, cancel)
        raise
    except GeneratorExit:
        raise
    except (KeyboardInterrupt, SystemExit) as stop_all:
        task._owner.handler_raised(task, stop_all)
        raise  # the loop stops for these, as with any task
    except BaseException as failure:
        task._owner.handler_raised(task, failure)
        return None
    task._owner.handler_returned(task, result)
    return result
