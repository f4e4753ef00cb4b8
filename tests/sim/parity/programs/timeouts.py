"""Programs on timeouts: whose they are, what they turn a cancel into, and what is left when they fire."""

from __future__ import annotations

import asyncio

from tests.sim.parity.stage import Half, Stage, accepted, alone, dialled, kind, outcome, pair


async def forever() -> None:
    await asyncio.Event().wait()


@alone("timeouts")
async def a_timeout_fires(at: Stage) -> None:
    """Inside it is a cancel, outside a TimeoutError with the cancel as its cause; the task is not cancelled afterwards."""
    task = asyncio.current_task()
    assert task is not None
    try:
        async with asyncio.timeout(0.002) as scope:
            at.log(scope.expired(), scope.when() is None)
            try:
                await forever()
            except BaseException as error:
                at.log(kind(error), task.cancelling(), scope.expired())
                raise
    except TimeoutError as error:
        at.log(kind(error), kind(error.__cause__), scope.expired(), task.cancelling())
    async with asyncio.timeout(10) as scope:
        await asyncio.sleep(0)
    at.log(scope.expired(), task.cancelling())


@alone("timeouts")
async def timeouts_within_timeouts(at: Stage) -> None:
    """The one whose time has come raises; the other passes a cancel through, or an error, as it is."""
    for outer_s, inner_s in ((0.002, 10.0), (10.0, 0.002), (None, 0.002), (0.002, None)):
        try:
            async with asyncio.timeout(outer_s) as outer:
                try:
                    async with asyncio.timeout(inner_s) as inner:
                        await forever()
                except BaseException as error:
                    at.log("inner gave", kind(error))
                    raise
        except TimeoutError as error:
            at.log("outer gave", kind(error), outer.expired(), inner.expired())


@alone("timeouts")
async def a_timeout_moved(at: Stage) -> None:
    """`reschedule` earlier, later, never; not after the end, nor before the beginning."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(0.001) as scope:
        scope.reschedule(None)
        at.log(scope.when())
        await asyncio.sleep(0.003)
        scope.reschedule(loop.time() + 10)
        await asyncio.sleep(0)
    at.log(scope.expired())
    for when in (0.0, 5.0):
        try:
            scope.reschedule(loop.time() + when)
        except RuntimeError:
            at.log("RuntimeError after the end")
    try:
        asyncio.timeout(1).reschedule(1)
    except RuntimeError:
        at.log("RuntimeError before the beginning")
    at.log(await outcome(_enter_twice(scope)))
    try:
        async with asyncio.timeout(10) as scope:
            scope.reschedule(loop.time() + 0.001)
            await forever()
    except TimeoutError:
        at.log("sooner", scope.expired())
    try:
        async with asyncio.timeout_at(loop.time() - 1) as scope:
            at.log("in the past, entered", scope.expired())
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            at.log("never here")
    except TimeoutError:
        at.log("in the past, fired")


async def _enter_twice(scope: asyncio.Timeout) -> None:
    async with scope:
        pass


@alone("timeouts")
async def a_timeout_and_a_cancel(at: Stage) -> None:
    """A cancel from outside stays a cancel, even where the timeout fires as well while it is handled."""

    async def work(*, linger: bool) -> None:
        try:
            async with asyncio.timeout(0.004 if linger else 10):
                try:
                    await forever()
                finally:
                    if linger:
                        task = asyncio.current_task()
                        assert task is not None
                        at.log(await outcome(asyncio.sleep(10)), task.cancelling())
        except BaseException as error:
            at.log("work gave", kind(error))
            raise

    for linger in (False, True):
        task = asyncio.ensure_future(work(linger=linger))
        await asyncio.sleep(0)
        task.cancel()
        at.log(await outcome(task), task.cancelled(), task.cancelling())


@alone("timeouts")
async def a_timeout_swallowed(at: Stage) -> None:
    """A body that eats the cancel gets no TimeoutError, one that turns it into its own error keeps that."""
    async with asyncio.timeout(0.002) as scope:
        at.log(await outcome(forever()))
    at.log(scope.expired())
    try:
        async with asyncio.timeout(0.002) as scope:
            try:
                await forever()
            except asyncio.CancelledError:
                raise LookupError("mine") from None
    except LookupError as error:
        at.log(kind(error), kind(error.__context__), scope.expired())


@alone("timeouts")
async def wait_for_in_every_way(at: Stage) -> None:
    """Value, error, no time at all, no limit; what timed out has been cancelled and has ended when `wait_for` returns."""

    async def value(result: str) -> str:
        await asyncio.sleep(0)
        return result

    async def slow() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            at.log("slow ended")

    async def raising() -> None:
        await asyncio.sleep(0)
        raise LookupError

    done = asyncio.get_running_loop().create_future()
    done.set_result("done")
    at.log(await asyncio.wait_for(value("in time"), 10), await asyncio.wait_for(value("no limit"), None))
    at.log(await outcome(asyncio.wait_for(raising(), 10)), await outcome(asyncio.wait_for(slow(), 0.002)))
    at.log(await outcome(asyncio.wait_for(done, 0)), await outcome(asyncio.wait_for(done, -1)))
    at.log(await outcome(asyncio.wait_for(value("no time"), 0)))
    pending = asyncio.get_running_loop().create_future()
    at.log(await outcome(asyncio.wait_for(pending, 0)), pending.cancelled())


@alone("timeouts")
async def what_ignores_its_timeout(at: Stage) -> None:
    """A task that answers the timeout's cancel with a value or an error of its own: what `wait_for` makes of it."""

    async def late_value() -> str:
        try:
            await forever()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "late value"

    async def late_error() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            raise LookupError("instead") from None

    for work in (late_value, late_error):
        at.log(await outcome(asyncio.wait_for(work(), 0.002)))
        task = asyncio.ensure_future(work())
        at.log(await outcome(asyncio.wait_for(task, 0.002)), task.cancelled(), await outcome(task))


@alone("timeouts")
async def waiting_for_several(at: Stage) -> None:
    """`wait` and `as_completed` give up without cancelling; the order of completion is kept."""

    async def after(seconds: float, name: str) -> str:
        await asyncio.sleep(seconds)
        return name

    tasks = [asyncio.ensure_future(after(seconds, name)) for seconds, name in ((0.03, "c"), (0.002, "a"), (0.015, "b"))]
    never = asyncio.ensure_future(forever())
    at.log([await each for each in asyncio.as_completed(tasks)])
    done, pending = await asyncio.wait({*tasks, never}, timeout=0.002)
    at.log(sorted(task.result() for task in done), pending == {never}, never.cancelled())
    at.log([await outcome(each) for each in asyncio.as_completed([never], timeout=0.002)], never.done())
    done, pending = await asyncio.wait([never, tasks[0]], return_when=asyncio.FIRST_COMPLETED)
    at.log(len(done), len(pending))
    never.cancel()
    done, pending = await asyncio.wait([never], return_when=asyncio.FIRST_EXCEPTION)
    at.log(len(done), len(pending), await outcome(asyncio.wait([])), await outcome(asyncio.wait([forever_coroutine := forever()])))
    forever_coroutine.close()


@alone("timeouts")
async def time_goes_on_while_we_spin(at: Stage) -> None:
    """A loop of `sleep(0)` is ended by its timeout: turns cost time. Timers come due in the order of their times."""
    turns = 0
    try:
        async with asyncio.timeout(0.005):
            while True:
                await asyncio.sleep(0)
                turns += 1
    except TimeoutError:
        at.log("ended", turns > 0)
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    start = loop.time()
    for number, delay in enumerate((0.006, 0.002, 0.004)):
        loop.call_at(start + delay, at.log, number)
    loop.call_at(start + 0.008, done.set_result, None)
    loop.call_later(-5, at.log, "at once")
    loop.call_soon(at.log, "sooner than at once")
    await done
    at.log(loop.time() >= start + 0.008)


@pair("timeouts")
def a_read_that_times_out() -> tuple[Half, Half]:
    """The read gives up, the connection does not: what comes later is read later."""

    async def server(at: Stage) -> None:
        async with accepted(at) as (reader, writer):
            writer.write(b"no line yet")
            at.log(await reader.readline())
            writer.write(b", but now\n")
            at.log(await reader.read())

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            try:
                async with asyncio.timeout(0.01):
                    await reader.readline()
            except TimeoutError:
                at.log("timed out")
            at.log(await outcome(asyncio.wait_for(reader.readuntil(b"!"), 0.01)))
            writer.write(b"go on\n")
            at.log(await asyncio.wait_for(reader.readline(), 10))

    return server, client
