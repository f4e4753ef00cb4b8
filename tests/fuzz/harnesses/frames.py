"""Small pure parts of the wire: header, check sums, and strangers at the door.

first byte: how it is cut · the rest: frames, sound or not
"""

from __future__ import annotations

from holdfast.errors import InvalidArgument
from holdfast.wire import frames
from holdfast.wire.checksum import seal, unseal
from holdfast.wire.machine import Role
from holdfast.wire.preface import explain_stranger, judged_prefix

FRAME_MAX_BYTES = 1024
LINE_MAX_BYTES = 400
ROLES: tuple[Role, ...] = ("client", "server")


def one(data: bytes) -> None:
    """Run one input."""
    head, body = (data[0] if data else 0), data[1:]
    check_sums(body, 1 + head % 40)
    packed(body)
    stranger(body)


def check_sums(data: bytes, step: int) -> None:
    """What is unsealed whole and in pieces is the same; what was sealed comes back; one wrong bit is seen."""
    whole, used, broken = unseal(memoryview(data), FRAME_MAX_BYTES)
    assert 0 <= used <= len(data)
    assert not (broken and used == len(data))
    found, rest, wrong = [], b"", False
    for start in range(0, len(data), step):
        rest += data[start : start + step]
        part, taken, wrong = unseal(memoryview(rest), FRAME_MAX_BYTES)
        found.append(part)
        rest = rest[taken:]
        if wrong or too_long(part):
            break
    joined = b"".join(found)
    assert joined == whole, "the frames depend on how they were cut"
    assert wrong == broken
    sound = whole_frames(whole)
    sealed = seal(sound)
    assert unseal(memoryview(sealed), FRAME_MAX_BYTES) == (sound, len(sealed), False)
    if sealed:
        place = step * 7919 % len(sealed)
        flipped = bytearray(sealed)
        flipped[place] ^= 1 << step % 8
        got, taken, broken = unseal(memoryview(flipped), FRAME_MAX_BYTES)
        assert broken or taken < len(sealed) or too_long(got), "a bit was changed and nobody saw it"


def too_long(part: bytes) -> bool:
    """Whether what was handed on ends with the lone header of a frame above the limit."""
    at = 0
    while at + frames.HEADER_BYTES <= len(part):
        length = frames.HEADER.unpack_from(part, at)[0]
        if length > FRAME_MAX_BYTES:
            return True
        at += frames.HEADER_BYTES + length
    return False


def whole_frames(data: bytes) -> bytes:
    """The frames in front of one that is too long."""
    at = 0
    while at + frames.HEADER_BYTES <= len(data):
        length = frames.HEADER.unpack_from(data, at)[0]
        if length > FRAME_MAX_BYTES:
            break
        at += frames.HEADER_BYTES + length
    return data[:at]


def packed(data: bytes) -> None:
    """What is packed is what was meant."""
    kind, flags = (data[0], data[1]) if len(data) > 1 else (0, 0)
    call_id = int.from_bytes(data[2:10])
    payload = data[10:]
    frame = frames.pack_frame(kind, flags, call_id, payload)
    assert frames.HEADER.unpack_from(frame) == (len(payload), kind, flags, call_id)
    assert frame[frames.HEADER_BYTES :] == payload
    assert frames.name_of(kind)
    trace = data[:25] if flags & 1 else None
    metadata = payload * 20 if flags & 2 else None
    try:
        extra = frames.pack_extra(trace, metadata)
    except InvalidArgument:
        assert (trace is not None and len(trace) != 25) or (metadata is not None and len(metadata) > frames.METADATA_MAX_BYTES)
    else:
        assert (extra is None) == (trace is None and metadata is None)
    refusal = frames.pack_refusal(flags, payload.decode("utf-8", "replace"))
    assert len(refusal) <= len(frames.PREFACE) + frames.HEADER_BYTES + 9 + frames.GOAWAY_TEXT_MAX_BYTES


def stranger(data: bytes) -> None:
    """The same verdict however the first bytes were cut, in one line that can be printed."""
    verdicts = [judged for end in range(1, min(len(data), 12) + 1) if (judged := judged_prefix(data[:end])) is not None]
    if not verdicts or data.startswith(frames.PREFACE):
        return
    for role in ROLES:
        who, line = explain_stranger(verdicts[0], role)
        assert who.isprintable()
        assert line.endswith(b".\r\n")
        assert line.count(b"\n") == 1
        assert len(line) <= LINE_MAX_BYTES


def seeds() -> list[bytes]:
    """Sealed sessions, strangers, and frames of every type."""
    every = b"".join(frames.pack_frame(kind, 0, 1, bytes(kind)) for kind in frames.NAMES)
    sealed = seal(every)
    found = [b"\x05" + sealed, b"\x00" + sealed, b"\x0d" + sealed[:-1], b"\x07" + sealed[:100] + b"\0" + sealed[101:]]
    found += [b"\x01" + frames.pack_frame(kind, 3, 2**53, b"payload" * 5) for kind in frames.NAMES]
    found += [b"\x02" + frames.HEADER.pack(2000, 0x10, 0, 1), b"\x02" + sealed + frames.HEADER.pack(2**32 - 1, 0x10, 0, 1)]
    strangers = (
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01\x02\0",
        b"\x15\x03\x03\0\x02",
        b"\x89HFST\r\n\x02",
        b"SSH-2.0-x\n",
        b"\n",
    )
    return found + [b"\x03" + each for each in strangers]
