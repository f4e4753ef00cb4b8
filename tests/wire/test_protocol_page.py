"""The protocol page says what the code does, in both languages: its tables and test vectors are read and checked."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from holdfast.wire import (
    CallState,
    Connection,
    IncomingCall,
    ItemReceived,
    Replied,
    Settings,
    Status,
    StatusReceived,
    Trailers,
    decode_trailers,
    encode_trailers,
    frames,
)
from holdfast.wire.checksum import seal, unseal
from tests.wire.helpers import feed, frame, machine, names, opened

DOCS = Path(__file__).resolve().parents[2] / "docs"
msgpack = msgspec.msgpack.encode
PAGES = [DOCS / language / "reference" / "protocol.md" for language in ("en", "zh")]
IDS = ["en", "zh"]


def vectors(page: Path) -> dict[str, bytes]:
    text = page.read_text("utf-8")
    [block] = re.findall(r"```text\n(preface .*?)```", text, re.DOTALL)
    lines = [line.split(maxsplit=1) for line in block.splitlines()]
    return {name: bytes.fromhex(data) for name, data in lines}


def rows(page: Path, first: str) -> list[list[str]]:
    """The table rows whose first cell matches."""
    lines = [line for line in page.read_text("utf-8").splitlines() if line.startswith("|")]
    table = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in table if re.fullmatch(first, row[0])]


def built() -> dict[str, bytes]:
    """The same frames, made by the machines."""
    client = opened("client", remote=Settings())
    said: dict[str, bytes] = {"preface": frames.PREFACE, "hello-defaults": frame(frames.HELLO, 0, 0, b"\x80")}
    call, stream, small = CallState(), CallState(), CallState()
    client.open_call(call, b"shop.price", msgspec.msgpack.encode({"sku": "A-1"}), False, 10_000, 1)
    said["call"] = client.take_output(1 << 20)
    extra = frames.pack_extra(bytes(range(24)) + b"\x01", b"\x81\xa1k\xa1v")
    client.open_call(stream, b"shop.price", b"\xff", True, 0, 2, frames.RETRY, extra, sends_items=True)
    said["call-extras"] = client.take_output(1 << 20)
    client.send_item(stream, b"\x0a\x0b", True)
    said["data"] = client.take_output(1 << 20)
    client.send_end(stream)
    said["end"] = client.take_output(1 << 20)
    client.open_call(small, b"m", b"abc", True, 0, 3)
    client.take_output(1 << 20)
    client.cancel(small)
    said["cancel"] = client.take_output(1 << 20)
    client.send_ping(bytes(range(1, 9)))
    said["ping"] = client.take_output(1 << 20)
    server = opened("server", Settings(), Settings())
    feed(server, said["call"] + said["call-extras"] + frame(frames.CALL, 0, 3, bytes(13) + b"\x01m") + said["ping"])
    said["pong"] = server.take_output(1 << 20)
    server.send_reply(server.calls[1], msgspec.msgpack.encode(9.9), False)
    said["reply"] = server.take_output(1 << 20)
    server.send_error(server.calls[2], msgspec.msgpack.encode({"c": 8, "m": "full", "x": 0}))
    said["error"] = server.take_output(1 << 20)
    server.announce_goaway("going")
    said["goaway-soon"] = server.take_output(1 << 20)
    server.send_goaway("going")
    said["goaway"] = server.take_output(1 << 20)
    server.send_status(Status(draining=True, load=0.5, message="restart"))
    said["status"] = server.take_output(1 << 20)
    client.send_ack(3)
    said["ack"] = client.take_output(1 << 20)
    extra = (frames.TRAILERS, b"")
    client.open_call(CallState(), b"m", b"\x80", False, 0, 4, extra=extra)
    said["call-asks"] = client.take_output(1 << 20)
    asked = opened("server", Settings(), Settings())
    feed(asked, said["call-asks"])
    asked.send_reply(asked.calls[4], b"\x01", False, encode_trailers(Trailers(queue_us=7, run_us=300)))
    said["reply-trailers"] = asked.take_output(1 << 20)
    asked.send_error(_opened_again(asked, 5), b"\x81\xa1c\x05", encode_trailers(Trailers(load=0.5)))
    said["error-trailers"] = asked.take_output(1 << 20)
    asked.send_end(_opened_again(asked, 6), encode_trailers(Trailers()))
    said["end-trailers"] = asked.take_output(1 << 20)
    said["welcome"] = frame(frames.WELCOME, 0, 0, msgpack({"frame_max_bytes": 4096, "heartbeat_s": 1, "features": ["crc32"]}))
    said["data-first"] = frame(frames.DATA, frames.MORE, 2, (3).to_bytes(4) + b"\xa2")
    said["data-rest"] = frame(frames.PIECE, 0, 2, b"ab")
    said["unknown"] = frame(0x7E, 0xFF, 9, b"later")
    said["end-checked"] = seal(said["end"])
    said["ping-spoiled"] = said["ping"] + b"\xa6\x26\x43\xf8"
    said["refusal"] = frames.pack_refusal(frames.FULL, "no room")
    said["ping-checked"] = seal(said["ping"])
    said["call-first"] = frame(frames.CALL, frames.MORE | frames.RAW, 3, b"\0\0\0\3" + bytes(4) + (3).to_bytes(8) + b"\0\1ma")
    said["call-rest"] = frame(frames.PIECE, 0, 3, b"bc")
    said["credit-stream"] = frame(frames.CREDIT, 0, 2, (131_072).to_bytes(4))
    said["credit-all"] = frame(frames.CREDIT, 0, 0, (2_097_152).to_bytes(4))
    return said


def _opened_again(server: Connection, call_id: int) -> CallState:
    """A call of the server's that wants trailers, and that it answers with a stream."""
    feed(server, frame(frames.CALL, frames.TRAILERS, call_id, bytes(13) + b"\x01m\x80"))
    return server.calls[call_id]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_vectors_are_what_the_machines_say(page: Path) -> None:
    found, expected = vectors(page), built()
    assert {name: data.hex() for name, data in found.items()} == {name: data.hex() for name, data in expected.items()}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_vectors_are_understood(page: Path) -> None:
    found = vectors(page)
    server = machine("server", Settings())
    feed(server, found["preface"] + found["hello-defaults"])
    assert server.remote == Settings()
    server.send_welcome(Settings())
    for name in (
        "call",
        "call-extras",
        "data",
        "credit-stream",
        "end",
        "call-first",
        "call-rest",
        "cancel",
        "ping",
        "pong",
        "ack",
        "goaway",
    ):
        feed(server, found[name])
    told = names(server.events)
    assert told == ["HelloReceived", "Called", "Called", "ItemReceived", "Ended", "Called", "CancelReceived", "Ponged", "GoneAway"]
    pieces = server.calls[3]
    assert isinstance(pieces, IncomingCall)
    assert pieces.body == b"abc"
    client = opened("client", Settings(), Settings())
    for sends in (False, True):
        client.open_call(CallState(), b"m", b"", False, 0, 1, sends_items=sends)
    feed(client, found["reply"] + found["error"])
    assert names(client.events) == ["Replied", "Failed"]
    client.events.clear()
    feed(client, found["goaway-soon"] + found["status"])
    assert [client.events[0].last_call_id, client.events[1]] == [
        frames.CALL_ID_MAX,
        StatusReceived(Status(draining=True, load=0.5, message="restart")),
    ]  # type: ignore[attr-defined]
    client.events.clear()
    for number in (3, 4):
        client.open_call(CallState(), b"m", b"", False, 0, number)
    feed(client, found["reply-trailers"])
    [replied] = client.events
    assert isinstance(replied, Replied)
    assert (replied.body, decode_trailers(replied.trailers)) == (b"\x01", Trailers(queue_us=7, run_us=300))
    client.events.clear()
    feed(client, found["unknown"])
    assert client.events == []
    for call_id in (5, 6):
        client.open_call(CallState(), b"m", b"", False, 0, call_id, takes_items=True)
    feed(client, found["error-trailers"] + found["end-trailers"])
    assert [decode_trailers(event.trailers) for event in client.events] == [Trailers(load=0.5), Trailers()]  # type: ignore[attr-defined]
    client.events.clear()
    streaming = machine("server", Settings())
    feed(streaming, found["preface"] + found["hello-defaults"])
    streaming.send_welcome(Settings())
    feed(streaming, found["call"] + found["call-extras"] + found["data-first"] + found["data-rest"])
    assert isinstance(streaming.events[-1], ItemReceived)
    assert streaming.events[-1].body == b"\xa2ab"
    greeted = machine("client", Settings(features=("crc32",)))
    feed(greeted, found["preface"] + found["welcome"] + found["ping-checked"])
    assert (greeted.checked, names(greeted.events)) == (True, ["Opened"])
    assert greeted.take_output(1 << 20)[4] == frames.PONG
    feed(greeted, found["ping-spoiled"])
    assert names(greeted.events) == ["Opened", "Errored"]
    assert unseal(memoryview(found["end-checked"]), 1024) == (found["end"], 18, False)
    fresh = machine("client", Settings())
    feed(fresh, found["refusal"])
    assert names(fresh.events) == ["GoneAway"]
    assert unseal(memoryview(found["ping-checked"]), 1024) == (found["ping"], len(found["ping-checked"]), False)
    feed(client, found["credit-all"])
    assert names(client.events) == ["Errored"], "nothing was spent, so no credit can come back"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_table_of_settings_is_the_codes(page: Path) -> None:
    table = {row[0]: row[1:4] for row in rows(page, "[a-z_]{4,}") if row[0] in Settings.__struct_fields__ and len(row) == 5}
    assert list(table) == list(Settings.__struct_fields__)
    for field in msgspec.structs.fields(Settings):
        default, lowest, highest = table[field.name]
        shown = str(field.default) if field.default else default
        assert default == shown
        kind = msgspec.inspect.type_info(field.type)
        bounds = [getattr(kind, "ge", None), getattr(kind, "le", None) or getattr(kind, "max_length", None)]
        assert [lowest, highest] == ["" if bound is None else f"{bound:g}" if bound == 0.1 else str(int(bound)) for bound in bounds]


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_tables_of_types_and_flags_are_the_codes(page: Path) -> None:
    table = rows(page, "0x[0-9a-f]{2}")
    types = {int(row[0], 16): (row[1], int(row[3], 16)) for row in table if len(row) == 5}
    assert types == {kind: (name, frames.KNOWN_FLAGS[kind]) for kind, name in frames.NAMES.items()}
    flags = {row[1]: int(row[0], 16) for row in table if len(row) == 3}
    assert flags == {name: getattr(frames, name) for name in ("MORE", "RAW", "TRACE", "METADATA", "STREAM", "TRAILERS")}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_reasons_of_goaway_are_the_codes(page: Path) -> None:
    reasons = [int(row[0]) for row in rows(page, "[0-9]")]
    assert reasons == [
        frames.GOING,
        frames.PROTOCOL,
        frames.FLOW,
        frames.TOO_LARGE,
        frames.IDLE,
        frames.ABUSE,
        frames.CHECKSUM,
        frames.FULL,
    ]
