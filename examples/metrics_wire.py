"""What travels between metrics_sender.py and metrics_receiver.py: one datagram, whole in itself, and the answer to a sender's last words.

    bytes   field
    2       "hm"
    1       version, 1
    1       flags: 1 asks for an answer, 2 is one
    4       CRC-32 of all the rest, and of the four bytes before: against damage, not against malice
    8       instance: when the sender's process started, in ms (48 bits), and 16 random bits
    8       sequence number: 1, 2, 3 … within the instance

An answer ends here. A report goes on with the sender's name (one byte of length), the number of entries (two bytes), and each entry: kind,
name (one byte of length), value. A counter ("c") has the *total since the sender started* (8 bytes), a gauge ("g") a float (8 bytes).

Theory. If a counter travelled as "3 more", what a lost datagram carried would be gone for ever, and what comes twice would count twice.
The total is right whatever became of the datagrams before it: the receiver takes the largest it has seen. So nothing needs to be sent
again, but the last words of a sender, after which no total comes. Those it repeats until they are answered.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping

import msgspec

DATAGRAM_MAX_BYTES = 1_200
"""What every path carries in one piece: IPv6 promises 1,280 bytes, less its headers."""

NAME_MAX_BYTES = 100

_MAGIC, _VERSION = b"hm", 1
_ASKS, _ANSWERS = 1, 2
_HEAD = struct.Struct(">2sBBIQQ")
_CRC_AT = 4
_COUNTER, _GAUGE = struct.Struct(">Q"), struct.Struct(">d")


class Malformed(ValueError):
    """Not one of our datagrams, or damaged. The message says what was expected."""


class Report(msgspec.Struct, frozen=True):
    """What one datagram of a sender says. `asks`: whether the sender wants to know that it came."""

    sender: str
    instance: int
    number: int
    asks: bool = False
    counters: Mapping[str, int] = {}
    gauges: Mapping[str, float] = {}


class Answer(msgspec.Struct, frozen=True):
    """The report with this number came."""

    instance: int
    number: int


def pack(message: Report | Answer) -> bytes:
    """The datagram of a message. Raises: ValueError for a name or a number that does not fit."""
    if isinstance(message, Answer):
        return _with_crc(_ANSWERS, message.instance, message.number, b"")
    body = [_name(message.sender), struct.pack(">H", len(message.counters) + len(message.gauges))]
    body += [b"c" + _name(name) + _counter(name, value) for name, value in message.counters.items()]
    body += [b"g" + _name(name) + _GAUGE.pack(value) for name, value in message.gauges.items()]
    return _with_crc(_ASKS if message.asks else 0, message.instance, message.number, b"".join(body))


def head_bytes(sender: str) -> int:
    """How much of a datagram is spent before its first entry."""
    return _HEAD.size + len(_name(sender)) + 2


def entry_bytes(name: str) -> int:
    """How much of a datagram one entry takes."""
    return 1 + len(_name(name)) + 8


def unpack(data: bytes) -> Report | Answer:
    """Read a datagram. Raises: Malformed, and nothing else, whatever the bytes are."""
    if len(data) < _HEAD.size:
        raise Malformed(f"expected at least {_HEAD.size} bytes, got {len(data)}")
    magic, version, flags, crc, instance, number = _HEAD.unpack_from(data)
    if (magic, version) != (_MAGIC, _VERSION) or flags not in (0, _ASKS, _ANSWERS):
        raise Malformed(f"expected {_MAGIC!r} version {_VERSION}, got {magic!r} version {version}, flags {flags}")
    if crc != _crc(data):
        raise Malformed("the checksum does not fit: it was damaged on its way")
    if flags == _ANSWERS:
        return Answer(instance, number)
    try:
        return _report(data, instance, number, asks=flags == _ASKS)
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise Malformed(f"its entries cannot be read: {error}") from error


def _report(data: bytes, instance: int, number: int, *, asks: bool) -> Report:
    counters: dict[str, int] = {}
    gauges: dict[str, float] = {}
    sender, at = _read_name(data, _HEAD.size)
    (entries,) = struct.unpack_from(">H", data, at)
    at += 2
    for _ in range(entries):
        kind = data[at : at + 1]
        name, at = _read_name(data, at + 1)
        if kind == b"c":
            (counters[name],) = _COUNTER.unpack_from(data, at)
        elif kind == b"g":
            (gauges[name],) = _GAUGE.unpack_from(data, at)
        else:
            raise Malformed(f"expected a counter or a gauge, got kind {kind!r}")
        at += 8
    if at != len(data):
        raise Malformed(f"{len(data) - at} bytes follow the last entry")
    return Report(sender, instance, number, asks, counters, gauges)


def split(sizes: Iterator[tuple[str, int]], room_bytes: int) -> list[list[str]]:
    """Put entries of given sizes, in order, into as few datagrams as have room for them; at least one."""
    parts: list[list[str]] = [[]]
    left = room_bytes
    for name, size in sizes:
        if size > left and parts[-1]:
            parts.append([])
            left = room_bytes
        parts[-1].append(name)
        left -= size
    return parts


def _with_crc(flags: int, instance: int, number: int, body: bytes) -> bytes:
    data = bytearray(_HEAD.pack(_MAGIC, _VERSION, flags, 0, instance, number) + body)
    struct.pack_into(">I", data, _CRC_AT, _crc(data))
    return bytes(data)


def _crc(data: bytes | bytearray) -> int:
    view = memoryview(data)
    return zlib.crc32(view[_CRC_AT + 4 :], zlib.crc32(view[:_CRC_AT]))


def _name(name: str) -> bytes:
    encoded = name.encode()
    if not 0 < len(encoded) <= NAME_MAX_BYTES:
        raise ValueError(f"{name!r} has {len(encoded)} bytes; a name has 1 to {NAME_MAX_BYTES}")
    return bytes([len(encoded)]) + encoded


def _counter(name: str, value: int) -> bytes:
    if not 0 <= value < 2**64:
        raise ValueError(f"{name} is {value}; a counter is 0 to 2**64 - 1")
    return _COUNTER.pack(value)


def _read_name(data: bytes, at: int) -> tuple[str, int]:
    size = data[at]
    raw = data[at + 1 : at + 1 + size]
    if len(raw) != size or not 0 < size <= NAME_MAX_BYTES:
        raise Malformed(f"a name claims {size} bytes, and {len(raw)} are there")
    return raw.decode(), at + 1 + size
