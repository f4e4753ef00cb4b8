"""Protocols written by others, for the loop's own transports, on ours: an HTTP server, a mail server, and asyncio's streams."""

from __future__ import annotations

import asyncio
import contextlib
import email.message
import hashlib
import io
import smtplib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiosmtpd.smtp import SMTP

import holdfast
from tests.net.helpers import turns_until
from tests.net.papers import papers

MIB = 1024 * 1024


def port_of(server: holdfast.Server) -> int:
    return int(server.addresses[0].rpartition(":")[2])


# ------------------------------------------------------------------------------------------------------------------------ aiohttp


def application(folder: Path) -> web.Application:
    """What HTTP servers do all day, and what leans on a transport."""

    async def hello(request: web.Request) -> web.Response:
        return web.json_response({"scheme": request.scheme, "remote": request.remote, "name": request.query.get("name", "")})

    async def digest(request: web.Request) -> web.Response:
        total = hashlib.blake2b()
        async for chunk in request.content.iter_any():
            total.update(chunk)
        return web.Response(text=total.hexdigest())

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for n in range(64):
            await response.write(bytes([n]) * 128 * 1024)  # waits at the high water mark
        return response

    async def talk(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data.upper())
        return socket

    async def file(request: web.Request) -> web.FileResponse:
        return web.FileResponse(folder / "big.bin")

    async def broken(request: web.Request) -> web.Response:
        raise web.HTTPGone

    app = web.Application(client_max_size=64 * MIB)
    app.add_routes([web.get("/", hello), web.post("/digest", digest), web.get("/stream", stream), web.get("/talk", talk)])
    app.add_routes([web.get("/file", file), web.get("/broken", broken)])
    return app


@contextlib.asynccontextmanager
async def http_server(folder: Path, bind: str, **more: Any) -> AsyncIterator[holdfast.Server]:
    """An aiohttp application, hosted: its `web.Server` is what makes a protocol for each connection."""
    runner = web.AppRunner(application(folder))
    await runner.setup()
    assert runner.server is not None
    async with holdfast.serve(runner.server, bind=bind, **more) as server:
        yield server
        await runner.cleanup()  # closes its idle connections, and lets requests end


@pytest.mark.both_loops
@pytest.mark.parametrize("scheme", ["tcp", "tls"])
async def test_an_aiohttp_application_serves_real_requests(scheme: str, tmp_path: Path) -> None:
    (tmp_path / "big.bin").write_bytes(bytes(range(256)) * 8192)
    tls = papers().serving() if scheme == "tls" else None
    trust = ssl.create_default_context(cafile=papers().ca)
    async with http_server(tmp_path, f"{scheme}://127.0.0.1:0", tls=tls) as server, aiohttp.ClientSession() as session:
        base = f"{'https' if tls else 'http'}://127.0.0.1:{port_of(server)}"
        how: dict[str, Any] = {"ssl": trust} if tls else {}
        for name in ("one", "two", "three"):  # on one connection, kept alive
            async with session.get(f"{base}/?name={name}", **how) as response:
                assert await response.json() == {"scheme": base.partition(":")[0], "remote": "127.0.0.1", "name": name}
        assert server.stats().connections == 1
        body = bytes(range(256)) * 16 * 1024
        async with session.post(f"{base}/digest", data=io.BytesIO(body), **how) as response:
            assert await response.text() == hashlib.blake2b(body).hexdigest()
        async with session.get(f"{base}/stream", **how) as response:
            assert await response.read() == b"".join(bytes([n]) * 128 * 1024 for n in range(64))
        async with session.get(f"{base}/file", **how) as response:
            assert await response.read() == bytes(range(256)) * 8192
        async with session.get(f"{base}/broken", **how) as response:
            assert response.status == 410
        async with session.ws_connect(f"{base}/talk", **how) as socket:
            await socket.send_str("hello")
            assert (await socket.receive_str()) == "HELLO"


async def test_an_aiohttp_request_in_flight_outlives_the_close(tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        begun.set()
        await go_on.wait()
        return web.Response(text="in time")

    app = web.Application()
    app.add_routes([web.get("/", slow)])
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    async with holdfast.serve(runner.server, bind="tcp://127.0.0.1:0") as server, aiohttp.ClientSession() as session:
        loop = asyncio.get_running_loop()
        asked = loop.create_task(session.get(f"http://127.0.0.1:{port_of(server)}/"))
        await begun.wait()
        closing = loop.create_task(server.close())
        await turns_until(lambda: server.stats().draining)
        go_on.set()
        async with await asked as response:
            assert await response.text() == "in time"
        assert not closing.done()
        await runner.cleanup()
        await closing


# ----------------------------------------------------------------------------------------------------------------------- aiosmtpd


class Mailbox:
    """Keeps what is delivered."""

    def __init__(self) -> None:
        self.mails: list[tuple[str, list[str], bytes]] = []

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return "250 taken"


@pytest.mark.both_loops
async def test_a_mail_server_of_aiosmtpd_takes_mail() -> None:
    box = Mailbox()

    def deliver(port: int) -> None:
        mail = email.message.EmailMessage()
        mail["From"], mail["To"], mail["Subject"] = "a@example.org", "b@example.org", "hello"
        mail.set_content("line\n" * 2000)
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.ehlo()
            client.send_message(mail)
            client.send_message(mail)
            assert client.noop()[0] == 250
            assert client.docmd("NONSENSE")[0] == 500

    async with holdfast.serve(lambda: SMTP(box, hostname="localhost"), bind="tcp://127.0.0.1:0") as server:
        await asyncio.to_thread(deliver, port_of(server))
    assert [(sender, to) for sender, to, _ in box.mails] == [("a@example.org", ["b@example.org"])] * 2
    assert box.mails[0][2].count(b"line\r\n") == 2000


# ------------------------------------------------------------------------------------------------------------------ asyncio's streams


@pytest.mark.both_loops
async def test_streams_of_asyncio_dial_out() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    def answering() -> asyncio.Protocol:
        return asyncio.StreamReaderProtocol(asyncio.StreamReader(), talk)

    async with holdfast.serve(answering, bind="tcp://127.0.0.1:0") as server:
        reader = asyncio.StreamReader()
        transport, protocol = await holdfast.dial(lambda: asyncio.StreamReaderProtocol(reader), server.addresses[0])
        writer = asyncio.StreamWriter(transport, protocol, reader, asyncio.get_running_loop())
        for line in (b"one\n", b"two\n"):
            writer.write(line)
            assert await reader.readline() == line.upper()
        assert not writer.can_write_eof()
        writer.close()
        await writer.wait_closed()
