"""The protocol page says what the code does, in both languages: its tables and test vectors are read and checked."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from holdfast.wire import CallState, IncomingCall, Settings, frames
from tests.wire.helpers import feed, frame, machine, names, opened

DOCS = Path(__file__).resolve().parents[2] / "docs"
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
    server.send_goaway("going")
    said["goaway"] = server.take_output(1 << 20)
    said["call-first"] = frame(frames.CALL, frames.MORE | frames.RAW, 3, b"\0\0\0\3" + bytes(4) + (3).to_bytes(8) + b"\0\1ma")
    said["call-rest"] = frame(frames.PIECE, 0, 3, b"bc")
    said["credit-stream"] = frame(frames.CREDIT, 0, 2, (131_072).to_bytes(4))
    said["credit-all"] = frame(frames.CREDIT, 0, 0, (2_097_152).to_bytes(4))
    return said


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
    for name in ("call", "call-extras", "data", "credit-stream", "end", "call-first", "call-rest", "cancel", "ping", "pong", "goaway"):
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
    feed(client, found["credit-all"])
    assert names(client.events) == ["Errored"], "nothing was spent, so no credit can come back"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_table_of_settings_is_the_codes(page: Path) -> None:
    table = {row[0]: row[1:4] for row in rows(page, "[a-z_]{4,}") if row[0] in Settings.__struct_fields__}
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
    assert flags == {name: getattr(frames, name) for name in ("MORE", "RAW", "TRACE", "METADATA", "STREAM")}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_the_reasons_of_goaway_are_the_codes(page: Path) -> None:
    reasons = [int(row[0]) for row in rows(page, "[0-9]")]
    assert reasons == [frames.GOING, frames.PROTOCOL, frames.FLOW, frames.TOO_LARGE, frames.IDLE]
