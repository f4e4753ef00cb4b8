"""Programs notice a kernel or a loop that is wrong: each of these mistakes is one that a model has made, and one program that tells.

A mistake is put into the simulation, and the program must end otherwise than on the real loop, or fail.
What may never happen here: a mistake that every program agrees with.
"""

from __future__ import annotations

import asyncio
import collections
import errno
import sys
from collections.abc import Callable
from typing import Any

import pytest

from holdfast.sim import WorldOptions, tcp, udp
from holdfast.sim.cpu import Cpu
from holdfast.sim.loop import SimLoop
from tests.sim.parity.catalogue import PROGRAMS
from tests.sim.parity.real import run_real
from tests.sim.parity.sim import PLACES, run_simulated

Patch = pytest.MonkeyPatch
Mistake = Callable[[Patch], WorldOptions | None]

BOUNDED: Any = {"virtual_max_s": 600.0, "steps_max": 20_000, "collect_every": 1_000}
"""Some mistakes never come to an end."""


def before(patch: Patch, owner: Any, name: str, change: Callable[[Any], object]) -> None:
    """Let something be changed first whenever a method is called."""
    method = getattr(owner, name)

    def changed(self: Any, *args: Any) -> Any:
        change(self)
        return method(self, *args)

    patch.setattr(owner, name, changed)


def close_with_unread_is_an_end(patch: Patch) -> None:
    before(patch, tcp.Connection, "close", lambda connection: connection.unread.clear())


def linger_does_nothing(patch: Patch) -> None:
    before(patch, tcp.Connection, "close", lambda connection: setattr(connection, "linger_none", False))


def every_close_is_a_reset(patch: Patch) -> None:
    before(patch, tcp.Connection, "close", lambda connection: setattr(connection, "linger_none", True))


def a_reset_takes_what_had_come(patch: Patch) -> WorldOptions:
    return WorldOptions(reset_discards_unread=True, **BOUNDED)


def a_reset_after_the_end_is_a_reset(patch: Patch) -> None:
    before(patch, tcp.Connection, "on_reset", lambda connection: setattr(connection, "read_end", False))


def a_reset_is_an_end(patch: Patch) -> None:
    patch.setattr(tcp.Connection, "on_reset", tcp.Connection.on_end)


def send_buffers_without_bottom(patch: Patch) -> None:
    patch.setattr(tcp.Connection, "room", lambda _connection: 1 << 30)


def the_end_overtakes_the_data(patch: Patch) -> None:
    def shutdown_write(self: tcp.Connection) -> None:
        self._out.clear()
        self.say_all = True
        self._push()

    patch.setattr(tcp.Connection, "shutdown_write", shutdown_write)


def an_error_stays(patch: Patch) -> None:
    receive = tcp.Connection.receive

    def again(self: tcp.Connection, size: int) -> bytes:
        error = self.error
        try:
            return receive(self, size)
        finally:
            self.error = error

    patch.setattr(tcp.Connection, "receive", again)


def a_port_that_does_not_listen_takes_connections(patch: Patch) -> None:
    def refused(self: tcp.Connection) -> None:
        self._fail(errno.ETIMEDOUT)

    patch.setattr(tcp.Connection, "_refused", refused)


def nobody_is_told_of_a_refused_datagram(patch: Patch) -> None:
    patch.setattr(udp.Datagrams, "_nobody_there", lambda _socket: None)


def datagrams_of_any_size(patch: Patch) -> None:
    patch.setattr(udp, "PAYLOAD_MAX_BYTES", 1 << 30)


def a_datagram_comes_in_halves(patch: Patch) -> None:
    receive = udp.Datagrams.receive

    def halves(self: udp.Datagrams) -> Any:
        data, source = receive(self)
        if len(data) > 1000:
            self._queue.appendleft((data[1000:], source))
            self._queued += len(data) - 1000
            data = data[:1000]
        return data, source

    patch.setattr(udp.Datagrams, "receive", halves)


class LastInFirstOut(collections.deque[Any]):
    """A ready queue that is none."""

    def popleft(self) -> Any:
        return self.pop()


def the_last_callback_runs_first(patch: Patch) -> None:
    begin_turn = Cpu._begin_turn

    def turned(self: Cpu) -> int:
        self.loop._ready = LastInFirstOut(self.loop._ready)
        return begin_turn(self)

    patch.setattr(Cpu, "_begin_turn", turned)


def a_loop_runs_in_threads(patch: Patch) -> None:
    def with_loop(self: Cpu, call: Callable[[], Any]) -> Any:
        asyncio._set_running_loop(self.loop)
        try:
            return call(), None, 0.0
        except Exception as error:
            return None, error, 0.0

    patch.setattr(Cpu, "run_as_thread", with_loop)


def a_pool_without_a_limit(patch: Patch) -> None:
    patch.setattr(SimLoop, "_pool_of", lambda loop, _executor: loop._pool)


def a_reader_hears_while_it_is_paused(patch: Patch) -> None:
    def pause_reading(transport: Any) -> None:
        transport._paused = True

    patch.setattr("asyncio.selector_events._SelectorTransport.is_reading", lambda transport: not transport._closing)
    patch.setattr("asyncio.selector_events._SelectorSocketTransport.pause_reading", pause_reading)


TEETH: list[tuple[Mistake, str]] = [
    (close_with_unread_is_an_end, "closing/a_close_with_bytes_unread_is_a_reset"),
    (linger_does_nothing, "closing/linger_of_zero_is_a_reset"),
    (every_close_is_a_reset, "closing/an_abort_is_an_end_unless_something_is_lost"),
    (a_reset_takes_what_had_come, "closing/a_reset_leaves_what_had_come"),
    (a_reset_after_the_end_is_a_reset, "closing/writing_to_one_who_has_left"),
    (a_reset_is_an_end, "streams/every_wait_ends_when_the_peer_resets"),
    (send_buffers_without_bottom, "protocols/writing_is_paused_and_resumed"),
    (the_end_overtakes_the_data, "closing/ask_until_the_end_then_listen"),
    (an_error_stays, "closing/what_a_socket_says_at_the_end"),
    (a_port_that_does_not_listen_takes_connections, "closing/nobody_listens"),
    (nobody_is_told_of_a_refused_datagram, "udp/a_refusal_reaches_a_connected_endpoint"),
    (datagrams_of_any_size, "udp/more_than_a_datagram_can_hold"),
    (a_datagram_comes_in_halves, "udp/boundaries_are_kept"),
    (the_last_callback_runs_first, "taskgroups/steps_interleave_first_in_first_out"),
    (the_last_callback_runs_first, "sync/events"),
    (the_last_callback_runs_first, "cancel/handles_that_are_cancelled"),
    (a_loop_runs_in_threads, "names/work_in_threads"),
    (a_pool_without_a_limit, "names/one_thread_one_thing_at_a_time"),
    (a_reader_hears_while_it_is_paused, "protocols/reading_is_paused_and_resumed"),
]


@pytest.mark.skipif(sys.platform != "linux", reason="the simulated kernel is Linux; others end connections in other ways")
@pytest.mark.parametrize(("mistake", "name"), TEETH, ids=[f"{mistake.__name__}-{name}" for mistake, name in TEETH])
def test_a_mistake_is_noticed(mistake: Mistake, name: str, monkeypatch: Patch) -> None:
    program = PROGRAMS[name]
    truth = run_real(program)
    places = PLACES[: 1 + program.two_hosts]
    assert all(run_simulated(program, seed, place) == truth for place in places for seed in range(3))
    options = mistake(monkeypatch) or WorldOptions(**BOUNDED)
    noticed = 0
    for place in places:
        for seed in range(3):
            try:
                noticed += run_simulated(program, seed, place, options) != truth
            except Exception:
                noticed += 1
    assert noticed > 0
