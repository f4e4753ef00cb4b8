"""TLS against others: openssl's own client and server, Python's ssl on blocking sockets, and holdfast through the whole house."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

import holdfast
from holdfast import Context, Service, TlsConfig
from holdfast.errors import ConfigError, OutcomeUnknown, ProtocolError, Unavailable
from holdfast.facts import ConnectionRefused, Fact, TlsReloaded
from tests.net.helpers import PATIENCE_S, Echo, Recorder, turns_until
from tests.net.papers import SPIFFE, papers
from tests.net.test_secure import places

T = TypeVar("T")

svc = Service("vault")


@svc.method
async def echo(text: str) -> str:
    return text


@svc.method
async def who(ctx: Context) -> list[str]:
    return list(ctx.peer.certificate.names) if ctx.peer.certificate is not None else []


@svc.method
async def count(upto: int) -> AsyncIterator[int]:
    for n in range(upto):
        yield n


@asynccontextmanager
async def serving(facts: list[Fact] | None = None, **tls: Any) -> AsyncIterator[holdfast.Server]:
    emit = (facts if facts is not None else []).append
    async with holdfast.serve(svc, bind="tls://127.0.0.1:0", tls=papers().serving(**tls), emit=emit) as server:
        yield server


def calling(server: holdfast.Server, **tls: Any) -> holdfast.Client:
    return holdfast.connect(server.addresses[0], tls=papers().calling(**tls), attempts=1)


# ------------------------------------------------------------------------------------------------------- through the whole house


@pytest.mark.both_loops
async def test_calls_and_streams_travel_over_tls() -> None:
    async with serving() as server, calling(server) as client:
        assert server.addresses[0].startswith("tls://127.0.0.1:")
        assert await client.call("vault.echo", "x" * 3_000_000) == "x" * 3_000_000
        async with client.stream("vault.count", 1000) as numbers:
            assert [n async for n in numbers] == list(range(1000))
        assert await asyncio.gather(*(client.call("vault.echo", str(n)) for n in range(200))) == [str(n) for n in range(200)]


async def test_a_handler_knows_who_is_calling() -> None:
    async with serving(clients="optional", client_trust=papers().ca) as server:
        async with calling(server, certificate=papers().client) as client:
            assert await client.call("vault.who") == [f"URI:{SPIFFE}"]
        async with calling(server) as client:
            assert await client.call("vault.who") == []


@pytest.mark.parametrize(
    ("server_tls", "client_tls", "text"),
    [
        ({}, {"trust": "stranger"}, "from an authority we do not trust"),
        ({}, {"server_name": "other.example"}, "for another name"),
        ({"clients": "required"}, {}, "it wants a certificate from us"),
    ],
)
async def test_a_call_that_cannot_be_trusted_fails_surely_not_executed(
    server_tls: dict[str, Any], client_tls: dict[str, Any], text: str
) -> None:
    if client_tls.get("trust"):
        client_tls = {"trust": papers().stranger}
    if server_tls:
        server_tls = {**server_tls, "client_trust": papers().ca}
    async with serving(**server_tls) as server, calling(server, **client_tls) as client:
        with pytest.raises(Unavailable, match=text) as caught:
            await client.call("vault.echo", "x")
        assert caught.value.executed == "no"
        assert server.addresses[0].removeprefix("tls://") in str(caught.value)


async def test_plain_and_secure_mistaken_for_one_another() -> None:
    async with serving() as server:
        plain = server.addresses[0].replace("tls://", "tcp://")
        async with holdfast.connect(plain, attempts=1) as client:
            with pytest.raises(ProtocolError, match="that port wants TLS: connect with tls://"):
                await client.call("vault.echo", "x")
    async with holdfast.serve(svc, bind="tcp://127.0.0.1:0") as server:
        secure = server.addresses[0].replace("tcp://", "tls://")
        async with holdfast.connect(secure, tls=papers().calling(), attempts=1) as client:
            with pytest.raises(Unavailable, match="it does not speak TLS; connect with tcp://"):
                await client.call("vault.echo", "x")


async def test_a_server_without_its_certificate_does_not_start() -> None:
    with pytest.raises(ConfigError, match="needs a certificate"):
        holdfast.serve(svc, bind="tls://127.0.0.1:0")
    server = holdfast.serve(svc, bind="tls://127.0.0.1:0", tls=TlsConfig(certificate="/nowhere.pem"))
    with pytest.raises(ConfigError, match=r"certificate='/nowhere.pem' cannot be read"):
        await server.__aenter__()
    client = holdfast.connect("tls://127.0.0.1:1", tls=TlsConfig(trust="/nowhere.pem"))
    with pytest.raises(ConfigError, match=r"trust='/nowhere.pem' cannot be read"):
        await client.__aenter__()


async def test_reload_loses_no_connection_and_gives_new_ones_the_new_certificate(tmp_path: Path) -> None:
    facts: list[Fact] = []
    path = tmp_path / "c.pem"
    shutil.copy(papers().server, path)
    async with serving(facts, certificate=path) as server, calling(server) as old:
        running = [asyncio.ensure_future(old.call("vault.echo", str(n))) for n in range(50)]
        async with old.stream("vault.count", 50_000) as numbers:
            assert await anext(numbers) == 0
            for _ in range(3):
                os.replace(papers().issue("127.0.0.1"), path)
                server.reload_tls()
                async with calling(server) as new:
                    assert await new.call("vault.echo", "new") == "new"
            assert [n async for n in numbers] == list(range(1, 50_000))
        assert await asyncio.gather(*running) == [str(n) for n in range(50)]
        assert len([fact for fact in facts if isinstance(fact, TlsReloaded)]) == 3
        path.write_text("broken")
        with pytest.raises(ConfigError):
            server.reload_tls()
        async with calling(server) as new:
            assert await new.call("vault.echo", "still") == "still"


async def test_a_connection_that_is_cut_takes_its_calls_with_it() -> None:
    async with serving() as server, calling(server) as client:
        await client.ready()
        session = client._core.dialer.session
        assert session is not None
        call = asyncio.ensure_future(client.call("vault.echo", "x" * 1000))
        await asyncio.sleep(0)
        assert session.link is not None
        session.link._below._transport.close()  # type: ignore[attr-defined] # the stream ends, and TLS did not say so
        with pytest.raises((OutcomeUnknown, Unavailable)):
            await call


async def test_a_server_that_closes_does_not_leave_strangers_at_its_door() -> None:
    facts: list[Fact] = []
    async with serving(facts) as server:
        with socket.create_connection(("127.0.0.1", int(server.addresses[0].rpartition(":")[2])), timeout=PATIENCE_S) as stranger:
            stranger.send(b"\x16\x03\x01")
            async with calling(server) as client:
                await client.ready()  # it came later: the stranger has been accepted
            await server.close()
            try:
                assert await in_thread(lambda: stranger.recv(100)) == b""
            except ConnectionResetError:
                pass
    assert any(isinstance(fact, ConnectionRefused) and "the listener was closed" in fact.reason for fact in facts)


async def test_strangers_who_say_nothing_are_gone_at_the_deadline() -> None:
    async with places(papers().server_contexts(handshake_timeout_s=0.3), papers().client_contexts()) as here:
        strangers = []
        for n in range(50):
            stranger = socket.create_connection(("127.0.0.1", here.address.port))
            stranger.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"[: 1 + n % 9])
            strangers.append(stranger)
        client, _ = await here.pair()
        client.link.write(b"good clients come through")
        await client.until(lambda: len(client.data) == 25)
        await turns_until(lambda: sum(fact.count for fact in here.facts if isinstance(fact, ConnectionRefused)) == 50)
        assert all("no TLS handshake within 0.3 s" in fact.reason for fact in here.facts if isinstance(fact, ConnectionRefused))
        for stranger in strangers:
            stranger.close()


# ---------------------------------------------------------------------------------------------------------------- openssl s_client


class Tool:
    """An openssl command with pipes."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.out = ""

    async def until(self, words: str, times: int = 1) -> str:
        """Read until the words have come so many times; returns all that came so far."""
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            while self.out.count(words) < times:
                part = await self._process.stdout.read(65536)
                assert part, f"{words!r} never came:\n{self.out}"
                self.out += part.decode(errors="replace")
        return self.out

    def say(self, words: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(words.encode())

    async def ended(self) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        async with asyncio.timeout(PATIENCE_S):
            self.out += (await self._process.stdout.read()).decode(errors="replace")
            await self._process.wait()
        return self.out


@asynccontextmanager
async def openssl(*arguments: str) -> AsyncIterator[Tool]:
    pipe, together = asyncio.subprocess.PIPE, asyncio.subprocess.STDOUT
    process = await asyncio.create_subprocess_exec("openssl", *arguments, stdin=pipe, stdout=pipe, stderr=together)
    try:
        yield Tool(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def s_client(port: int, *more: str, alpn: str = "holdfast/1") -> Any:
    return openssl("s_client", "-connect", f"127.0.0.1:{port}", "-CAfile", papers().ca, "-alpn", alpn, "-verify_return_error", *more)


@pytest.mark.both_loops
async def test_openssls_client_is_served_renews_keys_and_ends_in_order() -> None:
    async with places(papers().server_contexts(), papers().client_contexts()) as here:
        async with s_client(here.address.port, "-msg") as tool:
            out = await tool.until("Verify return code: 0 (ok)")
            assert "ALPN protocol: holdfast/1" in out
            assert "TLSv1.3" in out
            tool.say("one\n")
            await tool.until("\none\n")
            tool.say("K\n")  # new keys for both directions
            await tool.until("KEYUPDATE")
            tool.say("two\n")
            await tool.until("\ntwo\n")
            assert "<<< TLS 1.3, Handshake [length 0005], KeyUpdate" in tool.out
            tool.say("k\n")  # for its own
            await tool.until("KEYUPDATE", 2)  # what comes with the letter in one read is dropped
            tool.say("three\n")
            await tool.until("\nthree\n")
            tool.say("Q\n")
            assert "<<< TLS 1.3, Alert" not in tool.out.partition("KeyUpdate")[2]
            (server,) = here.accepted
            await server.until(lambda: server.lost)
            assert server.calls[-2:] == ["eof_received", "link_lost"]
            assert server.error is None
            await tool.ended()


async def test_our_close_notify_reaches_openssls_client() -> None:
    async with places(papers().server_contexts(), papers().client_contexts()) as here:
        async with s_client(here.address.port, "-msg") as tool:
            await tool.until("Verify return code: 0 (ok)")
            await turns_until(lambda: here.accepted)
            here.accepted[0].link.write(b"bye\n")
            here.accepted[0].link.close()
            out = await tool.ended()
            assert "bye" in out
            assert "Alert [length 0002], warning close_notify" in out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("-tls1_2",), "alert protocol version"),
        (("-tls1_3", "-ciphersuites", "TLS_AES_128_CCM_SHA256"), "alert handshake failure"),
        (("-tls1_3", "-sigalgs", "RSA-PSS+SHA256"), "alert handshake failure"),
    ],
)
async def test_openssls_client_is_told_why_it_is_refused(more: tuple[str, ...], said: str) -> None:
    async with places(papers().server_contexts(), papers().client_contexts()) as here:
        async with s_client(here.address.port, *more) as tool:
            assert said in await tool.ended()
        assert here.accepted == []


async def test_tls_1_2_can_be_allowed_and_renegotiation_cannot() -> None:
    async with places(papers().server_contexts(minimum="1.2"), papers().client_contexts()) as here:
        async with s_client(here.address.port, "-tls1_2") as tool:
            out = await tool.until("Verify return code: 0 (ok)")
            assert "ECDHE" in out
            assert "Compression: NONE" in out
            tool.say("one\n")
            await tool.until("\none\n")
            tool.say("R\n")
            assert "no renegotiation" in await tool.ended()
        async with s_client(here.address.port, "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:AES128-SHA") as tool:
            assert "alert handshake failure" in await tool.ended()


async def test_openssls_client_resumes() -> None:
    session = str(papers().folder / "session.pem")
    async with places(papers().server_contexts(), papers().client_contexts()) as here:
        async with s_client(here.address.port, "-sess_out", session) as tool:
            await tool.until("Verify return code: 0 (ok)")
            tool.say("x\n")
            await tool.until("\nx\n")
            tool.say("Q\n")
            await tool.ended()
        async with s_client(here.address.port, "-sess_in", session) as tool:
            assert "Reused, TLSv1.3" in await tool.until("Reused")


# ---------------------------------------------------------------------------------------------------------------- openssl s_server


@asynccontextmanager
async def s_server(*more: str, alpn: str = "holdfast/1") -> AsyncIterator[tuple[Tool, int]]:
    """One that reverses each line it is sent (`-rev`)."""
    arguments = ("-accept", "127.0.0.1:0", "-cert", papers().server, "-key", papers().server, "-alpn", alpn, "-naccept", "3")
    async with openssl("s_server", *arguments, *more) as tool:
        await tool.until("ACCEPT 127.0.0.1:")
        yield tool, int((await tool.until("\n")).partition("ACCEPT 127.0.0.1:")[2].split()[0])


async def _to(port: int, **tls: Any) -> tuple[Any, Recorder]:
    from holdfast.control.wheel import Wheel
    from holdfast.net.address import parse_address
    from holdfast.net.network import KernelNetwork
    from holdfast.net.secure import SecureNetwork

    loop = asyncio.get_running_loop()
    wheel = Wheel(loop.time, loop.call_at)
    network = SecureNetwork(KernelNetwork(loop.create_task, wheel), wheel, client=papers().client_contexts(**tls))
    receiver = Recorder()
    return await network.connect(parse_address(f"tls://127.0.0.1:{port}"), lambda: receiver, timeout_s=PATIENCE_S), receiver


@pytest.mark.both_loops
@pytest.mark.parametrize("version", ["1.3", "1.2"])
async def test_we_are_a_client_of_openssls_server(version: str) -> None:
    minimum = {"minimum": version}
    async with s_server("-rev", f"-tls{version.replace('.', '_')}") as (_, port):
        link, receiver = await _to(port, **minimum)
        link.write(b"stressed\n")
        await receiver.until(lambda: receiver.data == b"desserts\n")
        link.close()
        await receiver.until(lambda: receiver.lost)
        assert receiver.error is None


async def test_openssls_server_wants_a_certificate_and_sees_ours() -> None:
    async with s_server("-Verify", "3", "-verify_return_error", "-CAfile", papers().ca) as (tool, port):
        link, receiver = await _to(port, certificate=papers().client)
        await tool.until("depth=0")
        link.close()
        await receiver.until(lambda: receiver.lost)
        link, receiver = await _to(port)
        await receiver.until(lambda: receiver.lost)
        assert "it wants a certificate from us" in str(receiver.error)


async def test_openssls_server_of_another_protocol_is_refused() -> None:
    async with s_server(alpn="h2") as (_, port):
        with pytest.raises(Unavailable, match=r"another protocol than ours \(ALPN\)"):
            await _to(port)


# ------------------------------------------------------------------------------------------------------- Python on blocking sockets


async def in_thread(work: Callable[[], T]) -> T:
    return await asyncio.get_running_loop().run_in_executor(None, work)


def talk(port: int, lines: int) -> bytes:
    """A blocking client: writes, reads the echo, closes in order; returns what it got after its close_notify."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as raw:
        secure = papers().plain_client("holdfast/1").wrap_socket(raw, server_hostname="localhost")
        for n in range(lines):
            words = b"%d" % n * 1000
            secure.sendall(words)
            back = b""
            while len(back) < len(words):
                back += secure.recv(65536)
            assert back == words
        with secure.unwrap() as plain:
            return plain.recv(10)


async def test_blocking_clients_in_threads() -> None:
    async with places(papers().server_contexts(), papers().client_contexts()) as here:
        assert await asyncio.gather(*(in_thread(lambda: talk(here.address.port, 20)) for _ in range(4))) == [b""] * 4
        await turns_until(lambda: all(server.lost for server in here.accepted))
        assert [server.error for server in here.accepted] == [None] * 4


def hang_up(listening: socket.socket, *, orderly: bool) -> None:
    """A blocking server: one connection, one line, and an end with or without close_notify."""
    raw, _ = listening.accept()
    secure = papers().plain_server("holdfast/1").wrap_socket(raw, server_side=True)
    secure.sendall(b"half a message")
    assert secure.recv(100) == b"go on"
    if orderly:
        try:
            secure.unwrap().close()
        except (ssl.SSLError, OSError):
            pass
    secure.close()


@pytest.mark.both_loops
@pytest.mark.parametrize("orderly", [True, False])
async def test_a_blocking_server_that_ends_with_and_without_close_notify(orderly: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = asyncio.ensure_future(in_thread(lambda: hang_up(listening, orderly=orderly)))
        link, receiver = await _to(listening.getsockname()[1])
        await receiver.until(lambda: receiver.data)
        link.write(b"go on")
        await receiver.until(lambda: receiver.lost)
        await server
        assert ("eof_received" in receiver.calls) is orderly
        if orderly:
            assert receiver.error is None
        else:
            assert isinstance(receiver.error, ConnectionAbortedError | ConnectionResetError)


async def test_an_echo_over_a_slow_reader_holds_its_writer_back() -> None:
    async with places(papers().server_contexts(), papers().client_contexts()) as here:
        here.make = Echo
        client, server = await here.pair()
        client.link.pause_reading()
        for _ in range(64):
            client.link.write(b"x" * (1 << 18))
        await server.until(lambda: "pause_writing" in server.calls)
        client.link.resume_reading()
        await client.until(lambda: len(client.data) == 64 << 18)
        assert "resume_writing" in server.calls
