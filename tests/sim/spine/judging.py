"""Looks into clients and servers: is anything left of calls that are over, and is any account overdrawn?

Owns: what `nothing-left` and `credit` mean, in terms of the insides of a session, a desk, a wheel and a loop.
What may never happen here: a number that is read while its owner runs; whoever calls this is another process, or asks about itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import holdfast
from holdfast.rpc.session import Session


def sessions_of(owner: holdfast.Client | holdfast.Server) -> list[Any]:
    """The connections of a client or server that are not over."""
    if isinstance(owner, holdfast.Client):
        core = owner._core_
        return [] if core is None else [each for each in core.dialer.sessions if not each.closed]
    return [each for each in owner._sessions if not each.closed]


def held_by(session: Session) -> Iterator[str]:
    """What calls hold of a session, when there is no call."""
    conn, inbox = session.conn, session.conn.inbox
    if conn.calls:
        yield f"calls {sorted(conn.calls)}"
    if inbox.budget.used_bytes:
        yield f"{inbox.budget.used_bytes} bytes of the budget"
    if conn.state == "OPEN" and inbox.credit + inbox.owed != inbox.window:
        yield f"{inbox.window - inbox.credit - inbox.owed} bytes of the window"
    if conn.outbox.bulk is not None:
        yield f"{len(conn.outbox.bulk)} messages in the queue"
    if conn.outbox.answers:
        yield f"answers in pieces {sorted(conn.outbox.answers)}"
    if conn.events:
        yield f"events {[type(each).__name__ for each in conn.events]}"
    if getattr(session, "_line", None):
        yield "waiters for a turn"
    if session._gate:
        yield "waiters for the link"
    if session.paused:
        yield "a pause"


def left_in_client(client: holdfast.Client) -> list[str]:
    """What is left in a client that is open and has nothing to do."""
    core = client._core
    found = [f"client: {what}" for session in sessions_of(client) for what in held_by(session)]
    if client.status is not None and client.status.draining:
        found.append("client: a connection to a server that went down")
    if len(core.scope):
        found.append(f"client: {len(core.scope)} tasks")
    if core._waiting:
        found.append(f"client: calls between two attempts {sorted(core._waiting)}")
    return found


def left_in_server(server: holdfast.Server) -> list[str]:
    """What is left in a server that is open and has nothing to do."""
    desk = server._desk
    assert desk is not None
    found = [f"server: {what}" for session in sessions_of(server) for what in held_by(session)]
    if desk.running:
        found.append(f"server: {desk.running} handlers")
    if desk.threads_busy:
        found.append(f"server: {desk.threads_busy} threads")
    if len(desk.scope):
        found.append(f"server: {len(desk.scope)} tasks")
    return found


def left_in_process(process: Any, wheel: Any) -> list[str]:
    """What a process has left when its client or server is closed; asked by its main task."""
    found = []
    own = asyncio.current_task()
    tasks = sorted(each.get_name() + " " + getattr(each.get_coro(), "__qualname__", "?") for each in asyncio.all_tasks() if each is not own)
    if tasks:
        found.append(f"tasks {tasks}")
    if wheel is not None and len(wheel):
        found.append(f"{len(wheel)} timers of the wheel")
    loop: Any = asyncio.get_running_loop()
    timers = sorted(getattr(each._callback, "__qualname__", repr(each._callback)) for each in loop._scheduled if not each.cancelled())
    timers = [each for each in timers if "Wheel._wake" not in each]  # an empty wheel has its alarm on for a while, and finds nothing
    if timers:
        found.append(f"timers of the loop {timers}")
    sockets = sorted(type(file).__name__ for file in process.files.values())
    if sockets:
        found.append(f"descriptors {sockets}")
    return found


def overdrawn(session: Session) -> Iterator[str]:
    """What is below zero in a session, or does not add up."""
    conn, inbox, outbox = session.conn, session.conn.inbox, session.conn.outbox
    if conn.state != "OPEN":
        return
    unused, large = 0, conn.local.message_max_bytes  # an item in pieces is granted what it has over its window
    most = conn.message_max_bytes
    for call in conn.calls.values():
        flow = call.flow
        if flow is None:
            continue
        unused += flow.unused
        for name in ("send_credit", "receive_credit", "owed", "unused", "held"):
            if getattr(flow, name) < 0:
                yield f"{session.side}: {name} of call {call.id} is {getattr(flow, name)}"
        if flow.unused > flow.window:
            yield f"{session.side}: call {call.id} has {flow.unused} bytes nobody has read, of a window of {flow.window}"
        if flow.send_credit > flow.send_window + most:
            yield f"{session.side}: call {call.id} may send {flow.send_credit} of a window of {flow.send_window}"
        if flow.receive_credit + flow.owed > flow.window + large:
            yield f"{session.side}: call {call.id} gave {flow.receive_credit + flow.owed} of a window of {flow.window}"
    if min(inbox.credit, inbox.owed, outbox.credit, inbox.budget.used_bytes) < 0:
        yield f"{session.side}: credit {inbox.credit}, owed {inbox.owed}, may send {outbox.credit}, budget {inbox.budget.used_bytes}"
    if inbox.budget.used_bytes > inbox.budget.limit_bytes:
        yield f"{session.side}: {inbox.budget.used_bytes} bytes of a budget of {inbox.budget.limit_bytes}"
    if outbox.credit > outbox.window or inbox.credit + inbox.owed + unused > inbox.window:
        yield f"{session.side}: more credit than there is: {outbox.credit}, {inbox.credit} + {inbox.owed} + {unused}"


def overdrawn_desk(server: holdfast.Server) -> Iterator[str]:
    """What is wrong with the slots of a server."""
    desk = server._desk
    if desk is not None and not 0 <= desk.running <= desk.handlers_max:
        yield f"server: {desk.running} handlers of {desk.handlers_max}"
    if desk is not None and not 0 <= desk.threads_busy <= desk.threads_room:
        yield f"server: {desk.threads_busy} threads of {desk.threads_room}"
