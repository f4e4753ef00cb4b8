"""A HandlerTask does what a task made by `create_task` does, whatever its coroutine does first; a Scope lets nothing outlive it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import ContextVar, copy_context
from typing import Any

import anyio
import pytest

from holdfast.tasks import SUSPENDED, HandlerTask, Scope, new_handler_task

CALL: ContextVar[str] = ContextVar("call", default="nobody's")


class Owner:
    """Hears how a handler ended, as a responder does."""

    def __init__(self) -> None:
        self.ends: list[Any] = []

    def handler_returned(self, task: HandlerTask, result: Any) -> None:
        self.ends.append(result)

    def handler_raised(self, task: HandlerTask, error: BaseException) -> None:
        self.ends.append(told(error))


def told(error: BaseException) -> tuple[Any, ...]:
    return (type(error).__name__, *map(str, error.args))


def from_a_callback(make: Callable[[], Any]) -> asyncio.Future[Any]:
    """Run something as the loop runs `bytes_received`: outside of any task."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()

    def run() -> None:
        try:
            done.set_result(make())
        except BaseException as error:
            done.set_exception(error)

    loop.call_soon(run)
    return done


async def started(coro: Coroutine[Any, Any, Any], owner: Owner) -> HandlerTask:
    """A handler that has taken its first step."""
    task, loop = new_handler_task(), asyncio.get_running_loop()

    def step() -> None:
        try:
            result = task.run(loop, coro, owner, "the call", copy_context(), CALL.set)
        except BaseException as error:
            owner.ends.append(told(error))
        else:
            if result is not SUSPENDED:
                owner.ends.append(result)

    await from_a_callback(step)
    return task


async def as_handler(make: Callable[[], Coroutine[Any, Any, Any]], poke: Callable[[asyncio.Task[Any]], None] | None) -> Any:
    owner = Owner()
    task = await started(make(), owner)
    if poke is not None and task.suspended:
        poke(task)
    if task.suspended:
        await asyncio.wait([task])
    assert len(owner.ends) == 1, "a handler ends once"
    return owner.ends[0]


async def as_plain_task(make: Callable[[], Coroutine[Any, Any, Any]], poke: Callable[[asyncio.Task[Any]], None] | None) -> Any:
    task = asyncio.get_running_loop().create_task(make())
    await asyncio.sleep(0)
    if poke is not None and not task.done():
        poke(task)
    await asyncio.wait([task])
    if task.cancelled():
        try:
            await task
        except asyncio.CancelledError as error:
            return told(error)
    error = task.exception()
    return task.result() if error is None else told(error)


async def returns_at_once() -> Any:
    return 1


async def raises_at_once() -> Any:
    raise ValueError("no")


async def suspends_once() -> Any:
    await asyncio.sleep(0)
    return "after"


async def waits_for_ever() -> Any:
    await asyncio.get_running_loop().create_future()


async def cleans_up() -> Any:
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        await asyncio.sleep(0)
        return "cleaned"


async def timeout_zero() -> Any:
    try:
        async with asyncio.timeout(0):
            await asyncio.get_running_loop().create_future()
    except TimeoutError:
        return "timeout", current().cancelling()


async def timeout_in_the_past_without_waiting() -> Any:
    async with asyncio.timeout(-1):  # noqa: ASYNC100 # that it does nothing is the question
        pass
    return "in time"


async def task_group() -> Any:
    async with asyncio.TaskGroup() as group:
        first = group.create_task(returns_at_once())
        second = group.create_task(suspends_once())
    return first.result(), second.result(), current().cancelling()


async def task_group_that_fails() -> Any:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(raises_at_once())
            await asyncio.get_running_loop().create_future()
    except* ValueError:
        pass
    await asyncio.sleep(0)
    return "on", current().cancelling()


async def anyio_moves_on() -> Any:
    with anyio.move_on_after(0) as scope:
        await anyio.sleep_forever()
    await anyio.lowlevel.checkpoint()
    return scope.cancelled_caught


async def anyio_cancels_itself_at_once() -> Any:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.sleep_forever()
    return scope.cancelled_caught


async def cancels_itself_then_waits() -> Any:
    current().cancel("by myself")
    await asyncio.get_running_loop().create_future()


async def cancels_itself_and_takes_it_back() -> Any:
    current().cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return "caught", current().uncancel(), current().cancelling()


async def awaits_a_done_future() -> Any:
    future = asyncio.get_running_loop().create_future()
    future.set_result("there")
    return await future


async def awaits_a_failed_future() -> Any:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(future.set_exception, KeyError("k"))
    return await future


async def awaits_itself_by_another_name() -> Any:
    return current().get_name() != "", current().done(), current().cancelled(), current().get_coro() is not None


class Odd:
    """Yields what no task can wait for."""

    def __await__(self) -> Any:
        yield "nonsense"


async def yields_nonsense() -> Any:
    try:
        await Odd()
    except RuntimeError as error:
        return "refused", "bad yield" in str(error)


async def stops_iteration() -> Any:
    await asyncio.sleep(0)
    raise StopIteration


def current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


COROUTINES = [
    returns_at_once,
    raises_at_once,
    suspends_once,
    timeout_zero,
    timeout_in_the_past_without_waiting,
    task_group,
    task_group_that_fails,
    anyio_moves_on,
    anyio_cancels_itself_at_once,
    cancels_itself_then_waits,
    cancels_itself_and_takes_it_back,
    awaits_a_done_future,
    awaits_a_failed_future,
    awaits_itself_by_another_name,
    yields_nonsense,
    stops_iteration,
]


@pytest.mark.both_loops
@pytest.mark.parametrize("make", COROUTINES, ids=lambda make: make.__name__)
async def test_it_ends_as_a_plain_task_ends(make: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    assert await as_handler(make, None) == await as_plain_task(make, None)


@pytest.mark.both_loops
@pytest.mark.parametrize("make", [suspends_once, waits_for_ever, cleans_up, task_group], ids=lambda m: m.__name__)
@pytest.mark.parametrize("message", [None, "go"])
async def test_it_takes_a_cancel_before_its_second_step_as_a_plain_task(make: Callable[[], Any], message: str | None) -> None:
    def poke(task: asyncio.Task[Any]) -> None:
        assert task.cancel(message) is True
        assert task.cancelling() == 1

    assert await as_handler(make, poke) == await as_plain_task(make, poke)


@pytest.mark.both_loops
async def test_two_handlers_may_await_one_future() -> None:
    """`await` marks a future until the task that waits takes the mark off; a handler that has no task yet must not leave it there."""
    gate = asyncio.get_running_loop().create_future()

    async def waits() -> Any:
        return await gate

    owner = Owner()
    tasks = [await started(waits(), owner) for _ in range(3)]
    plain = asyncio.get_running_loop().create_task(waits())
    gate.set_result("open")
    await asyncio.wait([*tasks, plain])
    assert (owner.ends, plain.result()) == (["open"] * 3, "open")


@pytest.mark.both_loops
async def test_two_handlers_of_one_turn_may_await_one_future() -> None:
    gate = asyncio.get_running_loop().create_future()
    owner = Owner()
    loop = asyncio.get_running_loop()

    async def waits() -> Any:
        return await gate

    def both() -> list[HandlerTask]:
        tasks = [new_handler_task() for _ in range(2)]
        ends = [task.run(loop, waits(), owner, "the call", copy_context(), CALL.set) for task in tasks]
        assert ends == [SUSPENDED, SUSPENDED]
        return tasks

    tasks = await from_a_callback(both)
    gate.set_result("open")
    await asyncio.wait(tasks)
    assert owner.ends == ["open", "open"]


@pytest.mark.both_loops
async def test_the_current_task_is_the_same_object_before_and_after_it_suspends() -> None:
    seen: list[Any] = []

    async def looks() -> None:
        seen.append((current(), CALL.get(), asyncio.get_running_loop() is current().get_loop()))
        CALL.set("changed")
        await asyncio.sleep(0)
        seen.append((current(), CALL.get(), current() in asyncio.all_tasks()))

    task = await started(looks(), Owner())
    await asyncio.wait([task])
    assert seen == [(task, "the call", True), (task, "changed", True)]
    assert CALL.get() == "nobody's"
    assert asyncio.current_task() is not task


@pytest.mark.both_loops
async def test_a_done_callback_added_before_the_first_suspension_is_called() -> None:
    called: list[Any] = []

    async def adds(wait: bool) -> str:
        current().add_done_callback(lambda task: called.append(task.result()))
        if wait:
            await asyncio.sleep(0)
        return f"waited: {wait}"

    owner = Owner()
    for wait in (False, True):
        task = await started(adds(wait), owner)
        await asyncio.wait([task])
    assert called == owner.ends == ["waited: False", "waited: True"]


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
async def test_what_stops_the_loop_is_told_and_raised(kind: type[BaseException]) -> None:
    """In the first step: the responder answers, frees the slot and lets it go on to the loop."""

    async def stops() -> None:
        raise kind

    task, loop = new_handler_task(), asyncio.get_running_loop()

    def step() -> str:
        try:
            task.run(loop, stops(), Owner(), "the call", copy_context(), CALL.set)
        except (SystemExit, KeyboardInterrupt) as error:
            return type(error).__name__
        return "nothing"

    assert await from_a_callback(step) == kind.__name__


def test_the_owner_hears_of_a_system_exit_in_a_later_step() -> None:
    owner = Owner()

    async def stops() -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)

    async def main() -> None:
        await asyncio.wait([await started(stops(), owner)])

    with pytest.raises(SystemExit), asyncio.Runner() as runner:
        runner.run(main())
    assert owner.ends == [("SystemExit", "3")]


def test_a_loop_that_closes_over_a_suspended_handler_closes_its_coroutine(recwarn: pytest.WarningsRecorder) -> None:
    closed: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            closed.append("closed")

    async def main() -> None:
        await started(waits(), Owner())

    asyncio.run(main())
    assert closed == ["closed"]
    assert [str(w.message) for w in recwarn] == []


# ------------------------------------------------------------------------------------------------------------------ scopes


@pytest.mark.both_loops
async def test_closing_a_scope_cancels_its_tasks_and_waits_for_them() -> None:
    scope = Scope(lambda error: None)
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await asyncio.sleep(0)
            ended.append("over")

    scope.spawn(work())
    scope.spawn(work())
    await asyncio.sleep(0)
    assert len(scope) == 2
    assert await scope.close(grace_s=5.0) == 0
    assert (ended, len(scope)) == (["over", "over"], 0)


@pytest.mark.both_loops
async def test_a_scope_does_not_wait_for_ever() -> None:
    scope = Scope(lambda error: None)
    gate = asyncio.get_running_loop().create_future()

    async def stubborn() -> None:
        while not gate.done():
            try:
                await asyncio.shield(gate)
            except asyncio.CancelledError:
                pass

    task = scope.spawn(stubborn())
    await asyncio.sleep(0)
    assert await scope.close(grace_s=0.01) == 1
    gate.set_result(None)
    await asyncio.wait([task])


@pytest.mark.both_loops
async def test_a_closed_scope_starts_nothing_and_tells_what_its_tasks_raised() -> None:
    errors: list[BaseException] = []
    ran: list[str] = []
    scope = Scope(errors.append)

    async def work(error: Exception | None = None) -> None:
        ran.append("ran")
        if error is not None:
            raise error

    wrong = ValueError("wrong")
    await asyncio.wait([scope.spawn(work(wrong))])
    assert errors == [wrong]
    await scope.close(grace_s=0)
    await asyncio.wait([scope.spawn(work())])
    assert ran == ["ran"]


@pytest.mark.both_loops
async def test_a_task_that_is_asked_after_it_ended_in_its_first_step_has_its_result() -> None:
    async def returns() -> int:
        return 7

    task = await started(returns(), Owner())
    assert not task.done()  # it is made a real task now, which ends in a turn of its own
    assert await task == 7
