"""Mutations that speak frames: whole ones are moved, copied and invented, their fields changed one at a time, and lengths made to lie.

Owns: how an input of the connection harness is changed. Byte-level changes get past a length field only by luck, so half of the work is
done on frames; the other half is left to plain bytes, because luck finds what nobody thought of.
What may never happen here: chance that does not come from the `Random` that was handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from holdfast.wire import frames
from tests.fuzz.commands import call_frame
from tests.fuzz.harnesses.connection import HANDSHAKES, HEAD_BYTES

INPUT_MAX_BYTES = 8192
KINDS = (*frames.NAMES, 0x30)
CALL_KINDS = tuple(kind for kind in frames.NAMES if 0x10 <= kind < 0x20)
FLAGS = (0, 0, 0, 0, 1, 1, 2, 3, 4, 8, 16, 17, 18, 32, 33, 34, 63, 64)
IDS = (0, 1, 1, 2, 2, 3, 3, 4, 5, 6, 100, 2**32, 2**53 - 1, 2**53, 2**64 - 1)
SIZES = (0, 1, 4, 8, 9, 14, 15, 20, 50, 100, 500, 900, 1000, 1020, 1024, 1025, 2000, 4032)
TOTALS = (0, 1, 4, 5, 100, 1024, 1025, 3000, 4000, 4096, 5000, 9000, 16_384, 16_385, 2**31, 2**32 - 1)
BYTES = (0, 1, 2, 3, 4, 8, 14, 16, 32, 64, 127, 128, 254, 255)

Frame = tuple[int, int, int, int, bytes]
"""What the header claims as length (-1: the truth), type, flags, call id, payload."""


def cut(wire: bytes) -> tuple[bytes, list[Frame], bytes]:
    """Part bytes into a preface, whole frames, and the rest."""
    start = b""
    if wire.startswith(frames.PREFACE):
        start, wire = wire[: len(frames.PREFACE)], wire[len(frames.PREFACE) :]
    found: list[Frame] = []
    at = 0
    while at + frames.HEADER_BYTES <= len(wire):
        length, kind, flags, call_id = frames.HEADER.unpack_from(wire, at)
        end = at + frames.HEADER_BYTES + length
        if end > len(wire):
            break
        found.append((-1, kind, flags, call_id, wire[at + frames.HEADER_BYTES : end]))
        at = end
    return start, found, wire[at:]


def join(start: bytes, found: list[Frame], rest: bytes) -> bytes:
    """The other way round."""
    parts = [start]
    for length, kind, flags, call_id, payload in found:
        parts += (frames.HEADER.pack(len(payload) if length < 0 else length, kind, flags, call_id), payload)
    return b"".join((*parts, rest))


# ------------------------------------------------------------------------------------------------------------ whole frames


def invent(random: Random) -> Frame:
    """A frame that makes sense, or nearly does."""
    kind = random.choice(KINDS)
    flags = random.choice(FLAGS)
    call_id = random.choice(IDS) if kind < 0x20 or random.random() < 0.1 else 0
    return -1, kind, flags & frames.KNOWN_FLAGS.get(kind, 255) if random.random() < 0.8 else flags, call_id, payload_of(kind, flags, random)


def payload_of(kind: int, flags: int, random: Random) -> bytes:
    """A payload with the layout of its type."""
    body = bytes(random.choice(SIZES)) if random.random() < 0.5 else random.randbytes(random.choice((0, 1, 3, 20)))
    if kind == frames.CALL:
        flags &= ~frames.TRACE & ~frames.METADATA
        return call_frame(1, flags=flags, body=body, total=total_for(body, random), number=random.choice((0, 1, 5, 200)))[14:]
    if kind in (frames.REPLY, frames.DATA) and flags & frames.MORE:
        body = total_for(body, random).to_bytes(4) + body
    if kind in (frames.REPLY, frames.ERROR, frames.END) and flags & frames.TRAILERS:
        return random.choice((0, 1, 3, 500)).to_bytes(2) + body
    if kind == frames.CREDIT:
        return random.choice((0, 1, 64, 1000, 4096, 8192, 2**32 - 1)).to_bytes(4)
    if kind in (frames.PING, frames.PONG):
        return random.randbytes(8)
    if kind == frames.GOAWAY:
        return random.choice(IDS).to_bytes(8) + bytes((random.choice((0, 0, 1, 4, 9)),)) + body
    if kind == frames.ACK:
        return random.choice((0, 1, 5, 100, 2**64 - 1)).to_bytes(8)
    if kind == frames.STATUS:
        return random.choice((b"\x80", b"\x81\xa4load\xcb?\xe0\0\0\0\0\0\0", b"\x81\xa8draining\xc3", b"\xc0", body))
    if kind in (frames.HELLO, frames.WELCOME):
        return random.choice(list(HANDSHAKES.values()))[22:]
    return body


def total_for(body: bytes, random: Random) -> int:
    return len(body) + random.choice((0, 1, 5, 100, 1000)) if random.random() < 0.6 else random.choice(TOTALS)


def add(found: list[Frame], random: Random) -> None:
    found.insert(random.randrange(len(found) + 1), invent(random))


def drop(found: list[Frame], random: Random) -> None:
    if found:
        start = random.randrange(len(found))
        del found[start : start + random.choice((1, 1, 1, 3, 20))]


def copy(found: list[Frame], random: Random) -> None:
    if found:
        each = random.choice(found)
        at = random.randrange(len(found) + 1)
        found[at:at] = [each] * random.choice((1, 1, 2, 8, 70))


def swap(found: list[Frame], random: Random) -> None:
    if len(found) > 1:
        first, second = random.randrange(len(found)), random.randrange(len(found))
        found[first], found[second] = found[second], found[first]


def follow(found: list[Frame], random: Random) -> None:
    """Another frame for the same call: what follows a beginning."""
    if found:
        at = random.randrange(len(found))
        _, _, flags, call_id, _ = found[at]
        kind = random.choice(CALL_KINDS)
        flags = flags & frames.MORE if random.random() < 0.5 else random.choice((0, 1))
        size = random.choice((1, 96, 500, 996, 1000, 1024, 2496))
        payload = bytes(size) if kind == frames.PIECE else payload_of(kind, flags, random)
        found.insert(at + 1 + random.randrange(min(3, len(found) - at)), (-1, kind, flags, call_id, payload))


def pieces(found: list[Frame], random: Random) -> None:
    """Cut a message in two: MORE and a total on the first, the rest in a PIECE."""
    places = [at for at, each in enumerate(found) if each[1] in (frames.REPLY, frames.DATA, frames.PIECE) and len(each[4]) > 1]
    if not places:
        return
    at = random.choice(places)
    _, kind, flags, call_id, payload = found[at]
    part = random.randrange(1, len(payload))
    head = b"" if kind == frames.PIECE or flags & frames.MORE else len(payload).to_bytes(4)
    rest = (-1, frames.PIECE, flags & frames.MORE if kind == frames.PIECE else 0, call_id, payload[part:])
    found[at : at + 1] = [(-1, kind, flags | frames.MORE, call_id, head + payload[:part]), rest]


def change(found: list[Frame], random: Random) -> None:
    """One field of one frame."""
    if not found:
        return
    at = random.randrange(len(found))
    length, kind, flags, call_id, payload = found[at]
    which = random.randrange(8)
    if which == 0:
        kind = random.choice(KINDS)
    elif which == 1:
        flags ^= 1 << random.randrange(8)
    elif which in (2, 3):
        call_id = random.choice(IDS) if random.random() < 0.5 else max(0, call_id + random.choice((-1, 1))) % 2**64
    elif which == 4:
        length = random.choice((0, 1, 13, 1024, 1025, 65_536, 65_537, 2**31, 2**32 - 1, max(0, len(payload) + random.choice((-1, 1)))))
    elif which == 5:
        payload = payload[: random.randrange(len(payload) + 1)]
    elif which == 6:
        payload += bytes(random.choice((1, 4, 100, 1000)))
    else:
        payload = bytes_of(payload, random)
    found[at] = (length, kind, flags, call_id, payload)


ON_FRAMES: tuple[Callable[[list[Frame], Random], None], ...] = (add, add, drop, copy, swap, follow, follow, pieces, change, change, change)


# ------------------------------------------------------------------------------------------------------------- plain bytes


def bytes_of(data: bytes, random: Random) -> bytes:
    """One change to plain bytes."""
    changed = bytearray(data)
    at = random.randrange(len(changed) + 1)
    which = random.randrange(7)
    if which == 0 or not changed:
        changed[at:at] = random.randbytes(random.choice((1, 1, 2, 4, 14)))
    elif which == 1:
        del changed[at : at + random.choice((1, 1, 2, 4, 14, 100))]
    elif which == 2:
        changed[at % len(changed)] ^= 1 << random.randrange(8)
    elif which == 3:
        changed[at % len(changed)] = random.choice(BYTES)
    elif which == 4:
        width = random.choice((2, 4, 8))
        changed[at : at + width] = (random.choice(TOTALS) % 256**width).to_bytes(width)
    elif which == 5:
        other = random.randrange(len(changed))
        size = random.choice((1, 4, 14, 40))
        changed[at:at] = changed[other : other + size]
    else:
        del changed[at:]
    return bytes(changed)


# ------------------------------------------------------------------------------------------------------------ whole inputs


def mutate(data: bytes, random: Random, others: Sequence[bytes] = (), max_bytes: int = INPUT_MAX_BYTES) -> bytes:
    """Change an input of the connection harness a little. `others` are inputs to take frames from."""
    head = bytearray(data[:HEAD_BYTES].ljust(HEAD_BYTES, b"\0"))
    script = data[HEAD_BYTES : HEAD_BYTES + head[4]]
    wire = data[HEAD_BYTES + head[4] :]
    for _ in range(random.choice((1, 1, 2, 3, 5))):
        which = random.random()
        if which < 0.08:
            head[random.randrange(4)] = random.randrange(256)
        elif which < 0.33:
            script = bytes_of(script, random)[:255]
        elif which < 0.45:
            wire = bytes_of(wire, random)
        elif which < 0.53 and others:
            wire = splice(wire, random.choice(others), random)
        else:
            start, found, rest = cut(wire)
            random.choice(ON_FRAMES)(found, random)
            wire = join(start, found, rest)
    head[4] = len(script)
    return (bytes(head) + script + wire)[:max_bytes]


def splice(wire: bytes, other: bytes, random: Random) -> bytes:
    """Put a run of another input's frames among ours."""
    start, found, rest = cut(wire)
    length = other[HEAD_BYTES - 1] if len(other) >= HEAD_BYTES else 0
    _, theirs, _ = cut(other[HEAD_BYTES + length :])
    if theirs:
        begin = random.randrange(len(theirs))
        at = random.randrange(len(found) + 1)
        found[at:at] = theirs[begin : begin + random.randrange(1, 8)]
    return join(start, found, rest)


def mutate_bytes(data: bytes, random: Random, others: Sequence[bytes] = (), max_bytes: int = INPUT_MAX_BYTES) -> bytes:
    """The same for harnesses whose inputs are plain bytes."""
    for _ in range(random.choice((1, 1, 2, 4))):
        if others and random.random() < 0.15:
            other = random.choice(others)
            at, begin = random.randrange(len(data) + 1), random.randrange(len(other) + 1)
            data = data[:at] + other[begin:]
        else:
            data = bytes_of(data, random)
    return data[:max_bytes]
