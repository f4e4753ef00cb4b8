"""Programs on TLS: what each side knows of the other, how a handshake fails, and how an encrypted connection ends."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from tests.sim.parity.stage import (
    Half,
    Recorder,
    Stage,
    accepted,
    dial,
    dialled,
    errors_of_the_loop,
    listening,
    name_of,
    narrow,
    one_after_another,
    outcome,
    pair,
)

NAME = "server.test"


def subject(certificate: Any) -> str:
    return str(dict(field for part in certificate["subject"] for field in part)["commonName"])


@pair("tls")
def who_is_who() -> tuple[Half, Half]:
    """The client knows the server, the server not the client; both agree on version, cipher and protocol."""

    async def server(at: Stage) -> None:
        context = at.papers.server()
        context.set_alpn_protocols(["parity/2", "parity/1"])
        async with accepted(at, ssl=context) as (reader, writer):
            tls = writer.get_extra_info("ssl_object")
            at.log(tls.version(), tls.selected_alpn_protocol(), tls.server_side, writer.get_extra_info("peercert"))
            at.log(writer.get_extra_info("cipher")[0], writer.get_extra_info("sslcontext") is context)
            writer.write(await reader.readline())

    async def client(at: Stage) -> None:
        context = at.papers.client()
        context.set_alpn_protocols(["parity/1", "parity/3"])
        async with dialled(at, ssl=context, server_hostname=NAME) as (reader, writer):
            tls = writer.get_extra_info("ssl_object")
            at.log(tls.version(), tls.selected_alpn_protocol(), tls.server_side, tls.server_hostname)
            at.log(subject(writer.get_extra_info("peercert")), writer.get_extra_info("cipher")[0], writer.can_write_eof())
            writer.write(b"hello\n")
            at.log(await reader.read())

    return server, client


@pair("tls")
def both_show_papers() -> tuple[Half, Half]:
    """A server that asks gets the client's certificate; one that has none is let go."""

    async def server(at: Stage) -> None:
        ends = [Recorder(), Recorder()]
        async with listening(at, one_after_another(ends), ssl=at.papers.server(ask_client=True)):
            await ends[0].lost
            at.log(subject(await at.hear("seen")), *ends[0].facts)
            await at.hear("second over")
            at.log(ends[1].facts[:1])

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder, ssl=at.papers.client(certificate=True), server_hostname=NAME)
        end.transport.write(b"with papers")
        at.tell("seen", end.transport.get_extra_info("peercert"))
        end.transport.close()
        await end.lost
        at.log(*end.facts)
        # With TLS 1.3 the client is through before the server has looked. asyncio sends no alert: what comes is an end.
        end = await dial(at, Recorder, ssl=at.papers.client(), server_hostname=NAME)
        await end.lost  # by an end or a reset: that depends on whether the server had read all when it gave up
        at.log("ended", end.transport.is_closing())
        at.tell("second over")

    return server, client


@pair("tls")
def certificates_refused() -> tuple[Half, Half]:
    """An authority we do not trust and a name that is not theirs: verify codes here, no connection there."""

    async def server(at: Stage) -> None:
        ends: list[Recorder] = []

        def factory() -> Recorder:
            ends.append(Recorder())
            return ends[-1]

        async with listening(at, factory, ssl=at.papers.server()):
            await at.hear("over")
            await at.quiet()
        at.log(len(ends), *(end.facts for end in ends))

    async def client(at: Stage) -> None:
        at.log(await outcome(dial(at, Recorder, ssl=at.papers.client(trusting=False), server_hostname=NAME)))
        at.log(await outcome(dial(at, Recorder, ssl=at.papers.client(), server_hostname="other.test")))
        at.tell("over")

    return server, client


@pair("tls")
def a_protocols_life_in_tls() -> tuple[Half, Half]:
    """The same callbacks as without; half a close is not to be had, and a true `eof_received` keeps nothing open."""

    async def server(at: Stage) -> None:
        end = Recorder(keep_open=True)
        async with listening(at, lambda: end, ssl=at.papers.server()):
            await end.received(5)
            end.transport.write(b"answer")
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder, ssl=at.papers.client(), server_hostname=NAME)
        at.log(end.transport.can_write_eof(), end.transport.is_reading(), end.transport.get_write_buffer_limits())
        try:
            end.transport.write_eof()
        except NotImplementedError:
            at.log("NotImplementedError")
        end.transport.write(b"hello")
        await end.received(6)
        end.transport.close()
        at.log(end.transport.is_closing(), list(end.facts))
        await end.lost
        at.log(*end.facts)

    return server, client


@pair("tls")
def much_in_both_directions() -> tuple[Half, Half]:
    """A megabyte each way at once, against small kernel buffers; every byte in its place, whatever the records were."""
    data = bytes(range(256)) * 4096

    async def exchange(at: Stage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        narrow(writer.transport)

        async def send() -> None:
            for start in range(0, len(data), 100_000):
                writer.write(data[start : start + 100_000])
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(send())
            at.log(await reader.readexactly(len(data)) == data)

    async def server(at: Stage) -> None:
        async with accepted(at, ssl=at.papers.server()) as (reader, writer):
            await exchange(at, reader, writer)
            at.log(await reader.read())

    async def client(at: Stage) -> None:
        async with dialled(at, ssl=at.papers.client(), server_hostname=NAME) as (reader, writer):
            await exchange(at, reader, writer)

    return server, client


@pair("tls")
def starting_tls_on_the_way() -> tuple[Half, Half]:
    """Plain words first, then `StreamWriter.start_tls` on both sides of the same connection."""

    async def server(at: Stage) -> None:
        taken: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            at.log(await reader.readline())
            writer.write(b"go\n")
            await writer.drain()
            await writer.start_tls(at.papers.server())
            at.log(writer.get_extra_info("ssl_object").version(), await reader.readline())
            writer.write(b"well hidden\n")
            await writer.drain()
            at.log(await reader.read())
            writer.close()
            await outcome(writer.wait_closed())
            taken.set_result(None)

        server = await asyncio.start_server(answer, at.bind, 0)
        at.tell("port", server.sockets[0].getsockname()[1])
        await taken
        server.close()
        await server.wait_closed()

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            writer.write(b"may we?\n")
            at.log(await reader.readline(), writer.get_extra_info("ssl_object"))
            await writer.start_tls(at.papers.client(), server_hostname=NAME)
            at.log(subject(writer.get_extra_info("peercert")), writer.is_closing())
            writer.write(b"secret\n")
            at.log(await reader.readline())

    return server, client


@pair("tls")
def starting_tls_under_a_protocol() -> tuple[Half, Half]:
    """`loop.start_tls` calls no second `connection_made`; the new transport is the one to write to."""

    async def server(at: Stage) -> None:
        end = Recorder()
        loop = asyncio.get_running_loop()
        async with listening(at, lambda: end):
            await end.received(5)
            end.transport.pause_reading()
            end.transport.write(b"ready")
            new = await loop.start_tls(end.transport, end, at.papers.server(), server_side=True)
            assert new is not None
            await end.received(12)
            new.write(b"in tls")
            new.close()
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        end.transport.write(b"plain")
        await end.received(5)
        new = await asyncio.get_running_loop().start_tls(end.transport, end, at.papers.client(), server_hostname=NAME)
        assert new is not None
        at.log(new is end.transport, new.get_protocol() is end, new.get_extra_info("cipher") is not None)
        new.write(b" secret")
        await end.lost
        at.log(*end.facts)

    return server, client


@pair("tls")
def not_a_handshake() -> tuple[Half, Half]:
    """A record that is no greeting: the TLS server ends the connection (asyncio sends no alert) and connects no protocol."""

    async def server(at: Stage) -> None:
        end = Recorder()
        with errors_of_the_loop(at):
            async with listening(at, lambda: end, ssl=at.papers.server()):
                await at.hear("over")
                await at.quiet()
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        async with dialled(at) as (reader, writer):
            writer.write(b"\x16\x03\x01\x00\x10GET / HTTP/1.1\r\n")
            answer = await reader.read()
            at.log(answer[:1], len(answer), reader.at_eof())
        at.tell("over")

    return server, client


@pair("tls")
def no_answer_to_a_handshake() -> tuple[Half, Half]:
    """A peer that reads and says nothing: the handshake's own timeout; one that hangs up: a reset, in words."""

    async def server(at: Stage) -> None:
        ends = [Recorder(), Recorder()]
        async with listening(at, one_after_another(ends)):
            await ends[0].lost
            at.log(ends[0].data[:1] == b"\x16", ends[0].facts[-1])
            await ends[1].lost
        at.log(ends[1].facts[-1])

    async def client(at: Stage) -> None:
        context = at.papers.client()
        at.log(await outcome(dial(at, Recorder, ssl=context, server_hostname=NAME, ssl_handshake_timeout=0.03)))
        dialling = asyncio.ensure_future(dial(at, Recorder, ssl=context, server_hostname=NAME))
        await asyncio.wait({dialling}, timeout=0.02)
        at.log(dialling.cancel(), await outcome(dialling))

    return server, client


@pair("tls")
def hung_up_within_the_handshake() -> tuple[Half, Half]:
    """The peer takes the whole greeting and closes: the dial fails with a ConnectionResetError, though it was an ordinary end."""

    class Closing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.data) >= 5 and len(self.data) == 5 + int.from_bytes(self.data[3:5]):
                self.transport.close()

    async def server(at: Stage) -> None:
        end = Closing()
        async with listening(at, lambda: end):
            await end.lost
        at.log(end.facts[0], end.facts[-1])

    async def client(at: Stage) -> None:
        at.log(name_of(await outcome(dial(at, Recorder, ssl=at.papers.client(), server_hostname=NAME))))

    return server, client


@pair("tls")
def an_end_without_farewell() -> tuple[Half, Half]:
    """`abort` says no close_notify: what the other side is told."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end, ssl=at.papers.server()):
            await end.received(5)
            end.transport.write(b"heard")
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder, ssl=at.papers.client(), server_hostname=NAME)
        end.transport.write(b"hello")
        await end.received(5)
        end.transport.abort()
        await end.lost
        at.log(*end.facts)
        at.log(ssl.OPENSSL_VERSION_INFO >= (3,))

    return server, client
