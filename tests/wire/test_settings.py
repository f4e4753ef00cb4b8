"""Settings: what is missing has its default, what is unknown is skipped, what makes no sense ends the handshake."""

from __future__ import annotations

import math

import msgspec
import pytest

from holdfast.errors import ProtocolError
from holdfast.wire import Settings, frames
from holdfast.wire.settings import decode_settings, encode_settings

KIB, MIB = 1024, 1024 * 1024


def test_defaults_are_part_of_version_1() -> None:
    assert decode_settings(b"\x80") == Settings(
        frame_max_bytes=64 * KIB,
        message_max_bytes=16 * MIB,
        stream_window_bytes=256 * KIB,
        connection_window_bytes=4 * MIB,
        open_calls_max=1024,
        heartbeat_s=5.0,
        instance=b"",
        name="",
        catalogue=b"",
        codec="msgpack",
        features=(),
    )


def test_settings_travel() -> None:
    settings = Settings(frame_max_bytes=2048, instance=b"i" * 16, name="shop 商店", catalogue=b"d" * 32, features=("crc",), heartbeat_s=0.5)
    assert decode_settings(encode_settings(settings)) == settings


def test_unknown_keys_are_skipped() -> None:
    assert decode_settings(msgspec.msgpack.encode({"tomorrow": {"a": [1, 2]}, "name": "n"})).name == "n"


@pytest.mark.parametrize(
    ("key", "lowest", "highest"),
    [
        ("frame_max_bytes", KIB, 16 * MIB),
        ("message_max_bytes", KIB, 1024 * MIB),
        ("stream_window_bytes", 4 * KIB, 1024 * MIB),
        ("connection_window_bytes", 4 * KIB, 1024 * MIB),
        ("open_calls_max", 1, 2**20),
    ],
)
def test_numbers_have_bounds(key: str, lowest: int, highest: int) -> None:
    for good in (lowest, highest):
        assert getattr(decode_settings(msgspec.msgpack.encode({key: good})), key) == good
    for bad in (lowest - 1, highest + 1, -1, 2**64 - 1, str(lowest), float(lowest), None, True):
        with pytest.raises(ProtocolError, match=key):
            decode_settings(msgspec.msgpack.encode({key: bad}))


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "truncated"),
        (b"\x80\x00", "trailing"),
        (b"\x90", "got `array`"),
        (b"\xc1", "malformed"),
        (b"\x81\xa4name\xa1\xff", "utf-8"),
        (b"\x81\xa4name\xdb\xff\xff\xff\xff", "truncated"),
        (b"\xdf\xff\xff\xff\xff", "truncated"),
        (b"\x81\xa1z" + b"\x91" * 16000, "recursion"),
        (msgspec.msgpack.encode({"heartbeat_s": math.nan}), "heartbeat_s"),
        (msgspec.msgpack.encode({"heartbeat_s": math.inf}), "heartbeat_s"),
        (msgspec.msgpack.encode({"heartbeat_s": 0.0}), "heartbeat_s"),
        (msgspec.msgpack.encode({"name": "x" * 257}), "name"),
        (msgspec.msgpack.encode({"instance": b"x" * 65}), "instance"),
        (msgspec.msgpack.encode({"instance": "text"}), "instance"),
        (msgspec.msgpack.encode({"catalogue": b"x" * 65}), "catalogue"),
        (msgspec.msgpack.encode({"features": ["x"] * 65}), "features"),
        (msgspec.msgpack.encode({"codec": "json"}), "'json'.*only 'msgpack'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(payload: bytes, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        decode_settings(payload)


def test_the_longest_settings_fit_the_handshake() -> None:
    longest = Settings(name="𝔫" * 256, instance=b"i" * 64, catalogue=b"c" * 64, features=("feature-of-a-usual-length",) * 64)
    assert len(encode_settings(longest)) <= frames.HANDSHAKE_MAX_BYTES
