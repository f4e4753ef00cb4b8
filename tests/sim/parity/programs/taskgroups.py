"""Programs on task groups and the older ways of waiting for many: who is cancelled, which errors come out, in which order."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import sys
from typing import Any

from tests.sim.parity.stage import Half, Stage, alone, closed, kind, outcome, pair, said


async def forever() -> None:
    await asyncio.Event().wait()


async def fail(error: BaseException, turns: int = 0) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    raise error


@alone("taskgroups")
async def all_goes_well(at: Stage) -> None:
    """The group waits for tasks made by tasks; what they return stays with them."""

    async def work(number: int) -> int:
        await asyncio.sleep(0)
        if number:
            made.append(group.create_task(work(number - 1), name=f"work {number - 1}"))
        return number * number

    made: list[asyncio.Task[int]] = []
    async with asyncio.TaskGroup() as group:
        made.append(group.create_task(work(4), name="work 4"))
        at.log("body over", len(made))
    at.log([(task.get_name(), task.result()) for task in made])


@alone("taskgroups")
async def one_fails(at: Stage) -> None:
    """The others and the body are cancelled; only errors come out, in the order they happened."""

    async def cancelled(name: str) -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            at.log(name)
            raise

    task = asyncio.current_task()
    assert task is not None
    try:
        async with asyncio.TaskGroup() as group:
            other = group.create_task(cancelled("other cancelled"))
            group.create_task(fail(KeyError("first"), 3))
            group.create_task(fail(ValueError("second"), 3))
            await cancelled("body cancelled")
    except BaseExceptionGroup as error:
        at.log(kind(error), error.message, other.cancelled(), task.cancelling(), kind(error.__cause__))


@alone("taskgroups")
async def errors_while_ending(at: Stage) -> None:
    """What fails on being cancelled is added; an error of the body comes with the children's."""

    async def bad_end() -> None:
        try:
            await forever()
        finally:
            raise LookupError("while ending")

    for in_body in (False, True):
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(bad_end())
                await asyncio.sleep(0)
                if in_body:
                    raise ArithmeticError("in the body")
                group.create_task(fail(KeyError("child")))
        except BaseExceptionGroup as error:
            at.log(kind(error))


@alone("taskgroups")
async def a_group_cancelled_from_outside(at: Stage) -> None:
    """All children end, then the cancel goes on as a cancel; with an error besides, the errors come out."""

    async def child() -> None:
        try:
            await forever()
        finally:
            at.log("child ended")

    async def parent(*, with_error: bool) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(child())
            if with_error:
                group.create_task(_fail_when_cancelled())

    for with_error in (False, True):
        task = asyncio.ensure_future(parent(with_error=with_error))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel("from outside")
        at.log(await outcome(task), task.cancelled(), task.cancelling())


async def _fail_when_cancelled() -> None:
    try:
        await forever()
    except asyncio.CancelledError:
        raise LookupError("not quietly") from None


@alone("taskgroups")
async def groups_within_groups(at: Stage) -> None:
    """An inner group's errors are one error of the outer; inside, the nesting is kept."""
    try:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(forever())
            async with asyncio.TaskGroup() as inner:
                inner.create_task(fail(KeyError("inner")))
                inner.create_task(forever())
    except BaseExceptionGroup as error:
        at.log(kind(error))
    try:
        async with asyncio.TaskGroup() as outer:
            outer.create_task(fail(KeyError("outer")))
            try:
                async with asyncio.TaskGroup() as inner:
                    inner.create_task(forever())
            except BaseException as error:
                at.log("inner gave", kind(error))
                raise
    except BaseExceptionGroup as error:
        at.log(kind(error))
    task = asyncio.current_task()
    assert task is not None
    at.log(task.cancelling())


@alone("taskgroups")
async def a_child_cancelled_alone(at: Stage) -> None:
    """One child's cancel is nobody else's affair; a child that raises CancelledError itself is the same."""

    async def gives_up() -> None:
        raise asyncio.CancelledError

    async with asyncio.TaskGroup() as group:
        first = group.create_task(forever())
        second = group.create_task(gives_up())
        third = group.create_task(asyncio.sleep(0.003, "slept"))
        await asyncio.sleep(0)
        first.cancel()
    at.log(first.cancelled(), second.cancelled(), third.result())


@alone("taskgroups")
async def a_group_that_takes_no_more(at: Stage) -> None:
    """Not entered, over, ending: each refuses with a RuntimeError; entering twice as well."""

    def ask(group: asyncio.TaskGroup) -> None:
        work = forever()
        try:
            group.create_task(work)
        except RuntimeError as error:
            at.log(str(error).split(" at ")[0].split("<")[0], str(error).rsplit(">", 1)[-1])
        finally:
            work.close()

    group = asyncio.TaskGroup()
    ask(group)

    async def late() -> None:
        try:
            await forever()
        finally:
            ask(group)

    try:
        async with group:
            group.create_task(late())
            group.create_task(fail(KeyError()))
    except BaseExceptionGroup as error:
        at.log(kind(error))
    ask(group)
    try:
        async with group:
            at.log("never here")
    except RuntimeError:
        at.log("not twice")


@alone("taskgroups")
async def a_group_in_a_timeout(at: Stage) -> None:
    """The timeout cancels all of it and is itself the error; in a group, a child's timeout is an error like any."""

    async def impatient() -> None:
        async with asyncio.timeout(0.002):
            await forever()

    try:
        async with asyncio.timeout(0.002):
            async with asyncio.TaskGroup() as group:
                children = [group.create_task(forever()) for _ in range(3)]
    except TimeoutError as error:
        at.log(kind(error), [child.cancelled() for child in children])
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(impatient())
            group.create_task(forever())
    except* TimeoutError as error:
        at.log(kind(error))


@alone("taskgroups")
async def steps_interleave_first_in_first_out(at: Stage) -> None:
    """Tasks take turns in the order they were made; context is copied at the making; eager tasks (3.12) start before that."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")

    async def step(name: str, turns: int) -> None:
        for turn in range(turns):
            at.log(name, turn, variable.get())
            variable.set(name)
            await asyncio.sleep(0)

    variable.set("parent")
    async with asyncio.TaskGroup() as group:
        group.create_task(step("a", 3))
        group.create_task(step("b", 1))
        group.create_task(step("c", 2), context=contextvars.Context())
        at.log("body")
    at.log(variable.get())


@alone("taskgroups")
async def eager_tasks(at: Stage) -> None:
    """From 3.12 a task may run its first step inside its making, and one that never waits ends there."""
    if sys.version_info < (3, 12):
        at.log("no eager tasks")
        return
    loop = asyncio.get_running_loop()
    before = loop.get_task_factory()

    async def quick() -> str:
        at.log("quick", asyncio.current_task() is not outer)
        return "quick result"

    async def slow() -> str:
        at.log("slow starts")
        await asyncio.sleep(0)
        at.log("slow ends")
        return "slow result"

    outer = asyncio.current_task()
    loop.set_task_factory(asyncio.eager_task_factory)
    try:
        first, second = asyncio.ensure_future(quick()), asyncio.ensure_future(slow())
        at.log(first.done(), second.done(), asyncio.current_task() is outer)
        at.log(await second, await first)
        async with asyncio.TaskGroup() as group:
            group.create_task(slow())
            at.log("body")
    finally:
        loop.set_task_factory(before)


@alone("taskgroups")
async def gathering(at: Stage) -> None:
    """Results stand in the order of asking, however they ended; the same awaitable twice runs once; the first error comes out."""

    async def after(turns: int, value: Any) -> Any:
        for _ in range(turns):
            await asyncio.sleep(0)
        at.log("ran", value)
        return value

    once = after(1, "once")
    at.log(await asyncio.gather(after(3, 1), after(1, 2), once, once, after(2, 3)))
    at.log(await outcome(asyncio.gather(fail(KeyError(), 2), fail(ValueError(), 1), after(4, "still runs"))))
    for _ in range(4):
        await asyncio.sleep(0)
    at.log([kind(each) for each in await asyncio.gather(fail(KeyError(), 2), fail(ValueError()), return_exceptions=True)])


@alone("taskgroups")
async def a_task_nobody_waited_for(at: Stage) -> None:
    """Its error goes to the loop when the task is gone; a retrieved one does not; tasks know who made them stop."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: at.log(*said(context)))
    task: Any = asyncio.ensure_future(fail(KeyError("lost")))
    await asyncio.wait([task])
    at.log(task.done())
    del task
    seen: Any = asyncio.ensure_future(fail(KeyError("seen")))
    await asyncio.wait([seen])
    at.log(kind(seen.exception()))
    del seen
    loop.call_soon(lambda: [][0])
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    at.log("end")


@pair("taskgroups")
def one_group_of_connections() -> tuple[Half, Half]:
    """A task fails while its sisters wait for the network: their connections are closed on the way out, and the peer sees the ends."""

    async def server(at: Stage) -> None:
        ended: list[bytes] = []
        all_ended = asyncio.Event()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            async with closed(writer):
                name = await reader.readline()
                if name == b"0\n":
                    at.tell("zero came")
                ended.append(name + await reader.read())
            if len(ended) == 3:
                all_ended.set()

        async with await asyncio.start_server(answer, at.bind, 0) as server:
            at.tell("port", server.sockets[0].getsockname()[1])
            await all_ended.wait()
        at.log(sorted(ended))

    async def client(at: Stage) -> None:
        port = await at.hear("port")
        connected = asyncio.Semaphore(0)

        async def wait(number: int) -> None:
            reader, writer = await asyncio.open_connection(at.host, port)
            async with closed(writer):
                writer.write(b"%d\n" % number)
                connected.release()
                await reader.read()

        async def fail_later() -> None:
            for _ in range(3):
                await connected.acquire()
            await at.hear("zero came")
            raise KeyError("enough")

        with contextlib.suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                waiting = [group.create_task(wait(number)) for number in range(3)]
                group.create_task(fail_later())
        at.log([task.cancelled() for task in waiting])

    return server, client
