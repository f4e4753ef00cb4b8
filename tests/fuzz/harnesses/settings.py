"""What peers say about themselves: settings, status, trailers, and the errors of calls.

first byte: which of them · the rest: the payload
"""

from __future__ import annotations

import msgspec

from holdfast.errors import CODE_NAMES, HoldfastError, ProtocolError
from holdfast.rpc.codes import MESSAGE_MAX_BYTES, RETRY_AFTER_MAX_MS, decode_error, encode_error
from holdfast.wire import Settings
from holdfast.wire.settings import decode_settings, encode_settings
from holdfast.wire.status import Status, Trailers, decode_status, decode_trailers, encode_status, encode_trailers


def one(data: bytes) -> None:
    """Run one input."""
    which, payload = (data[0] % 4 if data else 0), data[1:]
    (settings, status, trailers, error)[which](payload)


def settings(payload: bytes) -> None:
    try:
        found = decode_settings(payload)
    except ProtocolError as refused:
        assert str(refused)
        return
    assert 1024 <= found.frame_max_bytes <= 16 << 20
    assert 1024 <= found.message_max_bytes <= 1 << 30
    assert 4096 <= found.stream_window_bytes <= 1 << 30
    assert 4096 <= found.connection_window_bytes <= 1 << 30
    assert 1 <= found.open_calls_max <= 1 << 20
    assert 0.1 <= found.heartbeat_s <= 3600
    assert len(found.instance) <= 64
    assert len(found.name) <= 256
    assert len(found.catalogue) <= 64
    assert len(found.features) <= 64
    assert decode_settings(encode_settings(found)) == found


def status(payload: bytes) -> None:
    try:
        found = decode_status(payload)
    except ProtocolError as refused:
        assert str(refused)
        return
    assert 0 <= found.load <= 1
    assert len(found.message) <= 256
    assert decode_status(encode_status(found)) == found


def trailers(payload: bytes) -> None:
    found = decode_trailers(payload)
    if found is not None:
        assert 0 <= found.load <= 1
        assert found.queue_us >= 0
        assert found.run_us >= 0
        assert decode_trailers(encode_trailers(found)) == found


def error(payload: bytes) -> None:
    """Never an exception, always an error that can be acted on; and it can be sent on."""
    found = decode_error(payload)
    assert isinstance(found, HoldfastError)
    assert found.remote
    assert found.code in CODE_NAMES
    assert found.executed in ("no", "maybe", "yes")
    assert len(found.message.encode()) <= MESSAGE_MAX_BYTES + 200  # the text of an error that cannot be read is our own
    assert found.retry_after_s is None or 0 <= found.retry_after_s <= RETRY_AFTER_MAX_MS / 1000
    again = decode_error(encode_error(found))
    assert (type(again), again.code, again.executed) == (type(found), found.code, found.executed)


def seeds() -> list[bytes]:
    """Each kind as it is sent, with every key, with none, and with one too many."""
    plain = msgspec.msgpack.encode
    named = Settings(name="shop", instance=bytes(16), catalogue=bytes(16), features=("crc32", "x"), heartbeat_s=0.5)
    said = [encode_settings(each) for each in (Settings(), named)]
    said += [plain({}), plain({"later": [1]}), plain({"codec": "cbor"}), plain({"heartbeat_s": 1e308}), plain([]), b"\xc1"]
    found = [b"\0" + each for each in said]
    found += [b"\0" + plain({name: value}) for name in Settings.__struct_fields__ for value in (0, -1, 2**40, "text", None, b"bytes", [1])]
    for each in (Status(), Status(serving=False, draining=True, load=0.25, message="database")):
        found.append(b"\x01" + encode_status(each))
    found += [b"\x01" + plain({"load": value}) for value in (1, 0, 1.5, -1, float("nan"), "x")]
    found += [b"\x02" + encode_trailers(each) for each in (Trailers(), Trailers(queue_us=10, run_us=2**40, load=1.0))]
    found += [b"\x02" + plain({"load": value}) for value in (1, 1.5, float("nan"), "x")]
    errors = [{"c": code, "m": "why", "x": code % 3} for code in (*range(18), -1, 2**63)]
    errors += [{"c": 8, "a": ms} for ms in (0, 100, -1, 2**62)]
    errors += [
        {"c": 3, "r": True, "d": {"field": ["x", 1, None, b"b", 1.5]}},
        {"c": 3, "m": "x" * 5000},
        {"m": "no code"},
        {"c": 5, "z": 1},
    ]
    return found + [b"\x03" + plain(each) for each in errors]
