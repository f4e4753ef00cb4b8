"""The queue of a listener and its bound."""

from __future__ import annotations

import pytest

from holdfast.sim import WorldOptions
from holdfast.sim.cpu import READ, Cpu
from holdfast.sim.engine import Engine
from holdfast.sim.kernel import Kernel
from holdfast.sim.links import Links
from holdfast.sim.listening import Listener, hears


class Waiting:
    """A connection in the queue."""

    number = 1
    aborted = False

    def abort(self) -> None:
        self.aborted = True


def listener(backlog: int) -> Listener:
    engine = Engine(0, WorldOptions())
    kernel = Kernel(engine, {}, Links(engine), "a", ("10.0.0.1", "fd00::1"))
    cpu = Cpu(engine, "a", engine.streams.stream("x"))
    made = Listener(kernel, cpu, 5, ("0.0.0.0", 7), backlog)
    kernel.bind("tcp", "0.0.0.0", 7, made)
    cpu.files[5] = made
    return made


@pytest.mark.parametrize(("backlog", "holds"), [(0, 1), (1, 2), (5, 6)])
def test_one_more_than_the_backlog_gets_in_and_handshakes_count(backlog: int, holds: int) -> None:
    made = listener(backlog)
    for n in range(holds):
        assert made.has_room()
        if n % 2:
            made.half_open += 1
        else:
            made.arrived(Waiting())
    assert not made.has_room()


def test_it_is_readable_while_somebody_waits() -> None:
    made = listener(5)
    assert made.mask() == 0
    made.arrived(Waiting())
    assert made.mask() == READ


def test_a_close_resets_the_queue_and_frees_descriptor_and_port_once() -> None:
    made, waiting = listener(5), Waiting()
    made.arrived(waiting)
    assert hears(made)
    made.close()
    made.close()
    assert waiting.aborted
    assert not hears(made)
    assert not hears(object())
    assert made.cpu.files == {}
    assert made.kernel.bind("tcp", "0.0.0.0", 7, listener(1)) == 7
