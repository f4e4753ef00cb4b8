"""`run` serves until a signal, drains, and returns; a second signal cuts it short."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading

import pytest

import holdfast
from holdfast.errors import ConfigError
from holdfast.facts import Draining, Fact, Listening, SignalReceived, Stopped, TlsReloaded
from tests.net.papers import papers


def service() -> holdfast.Service:
    made = holdfast.Service("shop")

    @made.method
    async def price(sku: str) -> int:
        return len(sku)

    return made


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_a_drain(number: signal.Signals) -> None:
    facts: list[Fact] = []

    def emit(fact: Fact) -> None:
        facts.append(fact)
        if isinstance(fact, Listening):
            os.kill(os.getpid(), number)

    holdfast.run(service(), bind="tcp://127.0.0.1:0", emit=emit)
    assert [type(fact) for fact in facts if isinstance(fact, Listening | SignalReceived | Draining | Stopped)] == [
        Listening,
        SignalReceived,
        Draining,
        Stopped,
    ]
    assert SignalReceived(number.name) in facts


def test_a_protocol_is_run_like_a_service() -> None:
    made: list[asyncio.Protocol] = []

    class Farewell(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            made.append(self)
            os.kill(os.getpid(), signal.SIGTERM)

        def drain_requested(self) -> None:
            self.transport.close()

    facts: list[Fact] = []

    def emit(fact: Fact) -> None:
        facts.append(fact)
        if isinstance(fact, Listening):
            peer = socket.create_connection(("127.0.0.1", int(fact.address.rpartition(":")[2])), timeout=10)
            threading.Thread(target=lambda: (peer.recv(1), peer.close())).start()

    holdfast.run(Farewell, bind="tcp://127.0.0.1:0", emit=emit)
    assert len(made) == 1
    assert Draining(1, 30.0) in facts
    assert facts[-1] == Stopped(0)


def test_a_second_signal_cuts_the_drain_short() -> None:
    signals: list[Fact] = []
    made = service()

    @made.lifespan
    async def lifespan():  # type: ignore[no-untyped-def]
        yield None
        import asyncio

        await asyncio.get_running_loop().create_future()  # it never closes by itself

    def emit(fact: Fact) -> None:
        if isinstance(fact, SignalReceived):
            signals.append(fact)
        if isinstance(fact, Listening | Draining):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        holdfast.run(made, bind="tcp://127.0.0.1:0", emit=emit)
    assert len(signals) == 2


def test_what_cannot_work_is_told_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="insecure=True"):
        holdfast.run(service(), bind="tcp://0.0.0.0:0")


def test_with_tls_a_hangup_reads_the_certificates_again() -> None:
    facts: list[Fact] = []
    before = signal.getsignal(signal.SIGHUP)

    def hang_up() -> None:
        if signal.getsignal(signal.SIGHUP) == before:  # it is taken when the server is open
            asyncio.get_running_loop().call_soon(hang_up)
        else:
            os.kill(os.getpid(), signal.SIGHUP)

    def emit(fact: Fact) -> None:
        facts.append(fact)
        if isinstance(fact, Listening):
            asyncio.get_running_loop().call_soon(hang_up)
        if isinstance(fact, TlsReloaded):
            os.kill(os.getpid(), signal.SIGTERM)

    holdfast.run(service(), bind="tls://127.0.0.1:0", tls=papers().serving(), emit=emit)
    assert TlsReloaded(papers().server) in facts
    assert signal.getsignal(signal.SIGHUP) == before
