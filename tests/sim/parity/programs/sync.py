"""Programs on locks, events, conditions, semaphores, barriers and queues: first come, first served, also around a cancel."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from tests.sim.parity.stage import Stage, alone, kind, outcome


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@alone("sync")
async def a_lock_is_fair(at: Stage) -> None:
    """First come, first served; a waiter that is cancelled is passed over; nobody overtakes after a release."""
    lock = asyncio.Lock()

    async def hold(name: str) -> None:
        async with lock:
            at.log(name, lock.locked())
            await asyncio.sleep(0)

    await lock.acquire()
    waiting = [asyncio.ensure_future(hold(name)) for name in "abcd"]
    await turns(2)
    waiting[1].cancel()
    lock.release()
    late = asyncio.ensure_future(hold("late"))
    at.log(lock.locked())
    at.log(await outcome(waiting[1]))
    await asyncio.gather(waiting[0], *waiting[2:], late)
    at.log(lock.locked())
    try:
        lock.release()
    except RuntimeError as error:
        at.log(str(error))


@alone("sync")
async def a_lock_and_a_cancel_at_once(at: Stage) -> None:
    """The one the lock was just given to is cancelled before it runs: the lock goes to the next, not into nothing."""
    lock = asyncio.Lock()

    async def hold(name: str) -> str:
        async with lock:
            at.log(name)
        return name

    await lock.acquire()
    first, second = asyncio.ensure_future(hold("first")), asyncio.ensure_future(hold("second"))
    await turns(2)
    lock.release()
    first.cancel()
    at.log(await outcome(first), await asyncio.wait_for(second, 10), lock.locked())


@alone("sync")
async def events(at: Stage) -> None:
    """All waiters wake in the order they came, also when the event is cleared at once; waiting for a set one does not even turn."""
    event = asyncio.Event()

    async def wait(name: str) -> None:
        at.log(name, await event.wait())

    tasks = [asyncio.ensure_future(wait(name)) for name in "abc"]
    await turns(1)
    event.set()
    event.clear()
    late = asyncio.ensure_future(wait("late"))
    await asyncio.gather(*tasks)
    at.log(event.is_set(), late.done())
    event.set()
    event.set()
    await late
    asyncio.get_running_loop().call_soon(at.log, "a turn")
    await event.wait()
    at.log("no turn was needed")
    await turns(1)


@alone("sync")
async def conditions(at: Stage) -> None:
    """`notify(n)` wakes n in order; a woken waiter has the lock; without the lock there is a RuntimeError."""
    condition = asyncio.Condition()
    ready: list[str] = []

    async def wait(name: str) -> None:
        async with condition:
            at.log(name, await condition.wait(), condition.locked())

    async def wait_for(name: str) -> None:
        async with condition:
            at.log(name, await condition.wait_for(lambda: len(ready) > 1 and ready))

    tasks = [asyncio.ensure_future(wait(name)) for name in "abc"]
    until = asyncio.ensure_future(wait_for("until"))
    await turns(5)
    async with condition:
        condition.notify(2)
        at.log("notified", [task.done() for task in tasks])
    await asyncio.gather(*tasks[:2])
    at.log(tasks[2].done())
    for word in ("one", "two"):
        async with condition:
            ready.append(word)
            condition.notify_all()
        await turns(5)
        at.log(until.done())
    await asyncio.gather(*tasks, until)
    for call in (condition.notify, condition.notify_all, condition.release):
        try:
            call()
        except RuntimeError as error:
            at.log(str(error))
    at.log(await outcome(condition.wait()))


@alone("sync")
async def a_condition_and_a_cancel(at: Stage) -> None:
    """A cancelled waiter has the lock again before it hears of the cancel."""
    condition = asyncio.Condition()

    async def wait() -> None:
        async with condition:
            try:
                await condition.wait()
            except asyncio.CancelledError:
                at.log("has the lock", condition.locked())
                raise

    task = asyncio.ensure_future(wait())
    await turns(2)
    async with condition:
        task.cancel()
        await turns(5)
        at.log("still waiting for the lock", task.done())
    at.log(await outcome(task), condition.locked())


@alone("sync")
async def semaphores(at: Stage) -> None:
    """No overtaking: who comes while others wait, waits; a cancelled waiter's turn goes on; a bounded one counts its releases."""
    semaphore = asyncio.Semaphore(2)
    inside = most = 0

    async def enter(name: str) -> None:
        nonlocal inside, most
        async with semaphore:
            inside += 1
            most = max(most, inside)
            at.log(name)
            await turns(2)
            inside -= 1

    tasks = [asyncio.ensure_future(enter(name)) for name in "abcdef"]
    await turns(1)
    at.log(semaphore.locked())
    tasks[2].cancel()
    at.log([await outcome(task) for task in tasks], most, semaphore.locked())
    await semaphore.acquire()
    await semaphore.acquire()
    first, second = asyncio.ensure_future(enter("first")), asyncio.ensure_future(enter("second"))
    await turns(1)
    semaphore.release()
    first.cancel()
    at.log(await outcome(first), await outcome(asyncio.wait_for(second, 10)))
    bounded = asyncio.BoundedSemaphore(1)
    try:
        bounded.release()
    except ValueError as error:
        at.log(str(error))
    try:
        asyncio.Semaphore(-1)
    except ValueError as error:
        at.log(str(error))


@alone("sync")
async def barriers(at: Stage) -> None:
    """The last one opens it for all; each has its number once; abort and reset break it for those who wait."""
    barrier = asyncio.Barrier(3)

    async def wait() -> Any:
        async with barrier as number:
            return number

    at.log(sorted(await asyncio.gather(*(wait() for _ in range(6)))), barrier.n_waiting, barrier.broken, barrier.parties)
    waiting = [asyncio.ensure_future(outcome(barrier.wait())) for _ in range(2)]
    await turns(2)
    at.log(barrier.n_waiting)
    await barrier.reset()
    at.log(await asyncio.gather(*waiting), barrier.broken)
    waiting = [asyncio.ensure_future(outcome(barrier.wait())) for _ in range(2)]
    await turns(2)
    await barrier.abort()
    at.log(await asyncio.gather(*waiting), barrier.broken, await outcome(barrier.wait()))
    await barrier.reset()
    at.log(barrier.broken, sorted(await asyncio.gather(*(barrier.wait() for _ in range(3)))))


@alone("sync")
async def queues(at: Stage) -> None:
    """Bounded ones hold the putters, in order; `join` waits for every `task_done`; priorities and stacks have their orders."""
    queue: asyncio.Queue[Any] = asyncio.Queue(2)

    async def put(*items: Any) -> None:
        for item in items:
            await queue.put(item)
            at.log("put", item, queue.qsize())

    putting = [asyncio.ensure_future(put(1, 2, 3)), asyncio.ensure_future(put("a", "b"))]
    await turns(3)
    at.log(queue.full(), queue.qsize())
    try:
        queue.put_nowait("too many")
    except asyncio.QueueFull as error:
        at.log(kind(error))
    joining = asyncio.ensure_future(queue.join())
    for _ in range(5):
        at.log("got", await queue.get())
        at.log(joining.done())
        queue.task_done()
    await asyncio.gather(joining, *putting)
    try:
        queue.task_done()
    except ValueError as error:
        at.log(str(error))
    for make in (asyncio.PriorityQueue, asyncio.LifoQueue):
        other: asyncio.Queue[int] = make()
        for number in (3, 1, 2):
            other.put_nowait(number)
        at.log([other.get_nowait() for _ in range(3)], other.empty())
        try:
            other.get_nowait()
        except asyncio.QueueEmpty as error:
            at.log(kind(error))


@alone("sync")
async def queues_and_cancels(at: Stage) -> None:
    """A getter cancelled just as its item came loses nothing: the next one gets it. Getters are served in order."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    getters = [asyncio.ensure_future(queue.get()) for _ in range(3)]
    await turns(1)
    queue.put_nowait("one")
    getters[0].cancel()
    at.log(await outcome(getters[0]), await asyncio.wait_for(getters[1], 10), getters[2].done())
    queue.put_nowait("two")
    at.log(await getters[2])
    full: asyncio.Queue[str] = asyncio.Queue(1)
    full.put_nowait("in")
    putters = [asyncio.ensure_future(full.put(name)) for name in ("x", "y")]
    await turns(1)
    at.log(full.get_nowait())
    putters[0].cancel()
    at.log(await outcome(putters[0]), await outcome(putters[1]), full.get_nowait())


@alone("sync")
async def a_queue_shut_down(at: Stage) -> None:
    """From 3.13 a queue can be closed: getters drain it and are told, putters are told at once."""
    if sys.version_info < (3, 13):
        at.log("no shutdown")
        return
    queue: asyncio.Queue[str] = asyncio.Queue(1)
    queue.put_nowait("left")
    putting = asyncio.ensure_future(outcome(queue.put("never")))
    await turns(1)
    queue.shutdown()
    at.log(await putting, await queue.get(), await outcome(queue.get()), await outcome(queue.put("x")))
    getting = asyncio.ensure_future(outcome(asyncio.Queue().get()))
    await turns(1)
    getting.cancel()
    other: asyncio.Queue[str] = asyncio.Queue()
    waiting = [asyncio.ensure_future(outcome(other.get())) for _ in range(2)]
    await turns(1)
    other.shutdown(immediate=True)
    at.log(await asyncio.gather(*waiting), await outcome(other.join()), await outcome(getting))
