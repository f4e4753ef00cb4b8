"""The transport a hosted protocol writes to: every method, said to a link that notes it, and the names a socket has."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest

import holdfast
from holdfast.context import Peer
from holdfast.net.link import HIGH_WATER_BYTES, LOW_WATER_BYTES
from tests.net.papers import papers
from tests.net.protocols import Plain, Told, hosted


def test_what_is_no_bytes_is_not_written() -> None:
    _, link, transport, _, _ = hosted()
    with pytest.raises(TypeError, match="expected bytes to write, and got str"):
        transport.write("text")  # type: ignore[arg-type]
    transport.write(b"")
    assert link.said == [b""]


def test_a_written_buffer_may_be_used_again_at_once() -> None:
    _, link, transport, _, _ = hosted()
    buffer = bytearray(b"first")
    transport.write(buffer)
    transport.write(memoryview(buffer))
    buffer[:] = b"later"
    assert link.said == [b"first", b"first"]
    assert [type(data) for data in link.said] == [bytes, bytes]


def test_many_buffers_are_one_write() -> None:
    _, link, transport, _, _ = hosted()
    transport.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
    assert link.said == [b"abc"]


@pytest.mark.parametrize(
    ("marks", "high", "low"),
    [
        ({}, HIGH_WATER_BYTES, LOW_WATER_BYTES),
        ({"high": 0}, 0, 0),
        ({"high": 100}, 100, 25),
        ({"low": 100}, 400, 100),
        ({"high": 9, "low": 9}, 9, 9),
    ],
)
def test_one_mark_gives_the_other(marks: dict[str, int], high: int, low: int) -> None:
    _, link, transport, _, _ = hosted()
    transport.set_write_buffer_limits(**marks)
    assert transport.get_write_buffer_limits() == (low, high)
    assert link.said == [(high, low)]


@pytest.mark.parametrize("marks", [{"high": 1, "low": 2}, {"high": -1}, {"low": -1}])
def test_marks_that_make_no_sense_are_refused(marks: dict[str, int]) -> None:
    _, link, transport, _, _ = hosted()
    with pytest.raises(ValueError, match="expected high >= low >= 0"):
        transport.set_write_buffer_limits(**marks)
    assert link.said == []


def test_one_direction_alone_cannot_be_closed() -> None:
    _, _, transport, _, _ = hosted()
    assert not transport.can_write_eof()
    with pytest.raises(NotImplementedError, match="cannot close one direction alone"):
        transport.write_eof()


def test_a_closing_transport_is_not_reading() -> None:
    _, link, transport, _, _ = hosted()
    assert transport.is_reading()
    transport.pause_reading()
    assert not transport.is_reading()
    transport.resume_reading()
    assert transport.is_reading()
    transport.close()
    assert (transport.is_reading(), transport.is_closing()) == (False, True)
    assert link.said == ["pause", "resume", "close"]


# ------------------------------------------------------------------------------------------------------- names, as a socket has them


@pytest.mark.parametrize(("bind", "host", "size"), [("tcp://127.0.0.1:0", "127.0.0.1", 2), ("tcp://[::1]:0", "::1", 4)])
async def test_names_are_those_of_a_socket(bind: str, host: str, size: int) -> None:
    told, made = Told(), []

    def factory() -> Plain:
        made.append(Plain(told))
        return made[-1]

    async with holdfast.serve(factory, bind=bind) as server:
        port = int(server.addresses[0].rpartition(":")[2])
        _, writer = await asyncio.open_connection(host, port)
        await told.until("made")
        transport = made[0].transport
        ends = writer.get_extra_info("sockname"), writer.get_extra_info("peername")
        assert (transport.get_extra_info("peername"), transport.get_extra_info("sockname")) == ends
        assert [len(end) for end in ends] == [size, size]
        assert transport.get_extra_info("holdfast.peer") == Peer(made[0].transport._link.peer)
        assert transport.get_extra_info("socket") is None
        assert transport.get_extra_info("sslcontext", "none") == "none"
        writer.close()
        await told.until("lost")


async def test_a_unix_peer_has_the_path(tmp_path: Any) -> None:
    told, made = Told(), []

    def factory() -> Plain:
        made.append(Plain(told))
        return made[-1]

    async with holdfast.serve(factory, bind=f"unix://{tmp_path}/s") as server:
        _, writer = await asyncio.open_unix_connection(f"{tmp_path}/s")
        await told.until("made")
        assert made[0].transport.get_extra_info("sockname") == f"{tmp_path}/s"
        assert server.stats().connections == 1
        writer.close()
        await told.until("lost")


async def test_over_tls_it_tells_what_the_loops_own_transports_tell() -> None:
    told, made = Told(), []

    def factory() -> Plain:
        made.append(Plain(told))
        return made[-1]

    serving = papers().serving(alpn=("echo/1",), clients="required", client_trust=papers().ca)
    calling = papers().calling(alpn=("other/1", "echo/1"), certificate=papers().client)
    async with holdfast.serve(factory, bind="tls://127.0.0.1:0", tls=serving) as server:
        transport, protocol = await holdfast.dial(lambda: Plain(Told()), server.addresses[0], tls=calling)
        await told.until("made")
        theirs = made[0].transport
        assert theirs.get_extra_info("ssl_object").selected_alpn_protocol() == "echo/1"
        assert isinstance(theirs.get_extra_info("sslcontext"), ssl.SSLContext)
        assert theirs.get_extra_info("peercert")["subjectAltName"] == (("URI", "spiffe://td.test/ns/prod/sa/payments"),)
        assert theirs.get_extra_info("holdfast.peer").certificate.names == ("URI:spiffe://td.test/ns/prod/sa/payments",)
        assert theirs.get_extra_info("cipher")[1] == "TLSv1.3"
        assert theirs.get_extra_info("compression") is None
        assert theirs.get_extra_info("unheard of", 7) == 7
        assert transport.get_extra_info("peername") == theirs.get_extra_info("sockname")
        transport.write(b"over TLS")
        await told.until("data", b"over TLS")
        transport.close()
        await protocol.told.until("lost")
        await told.until("lost")
        assert told.calls[-2:] == [("eof", None), ("lost", None)]
        assert theirs.get_extra_info("ssl_object") is None
