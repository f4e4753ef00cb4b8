"""The first bytes of a TLS connection, read before anything is spent on it.

Owns: whether a whole ClientHello has come, what it asks for, and whether that is worth a handshake. OpenSSL reads it again and is the judge
of everything else: whatever is odd here is handed to it, so that the alert is its own.
What may never happen here: an exception on any bytes; work that grows faster than what has come.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from .records import (
    HANDSHAKE,
    ILLEGAL_PARAMETER,
    NO_APPLICATION_PROTOCOL,
    RECORD_HEADER_BYTES,
    RECORD_MAX_BYTES,
    UNRECOGNIZED_NAME,
    fatal_alert,
    is_record,
)

HELLO_MAX_BYTES = 16384
"""A ClientHello with post-quantum keys has 2 KiB. OpenSSL by itself would collect 128 KiB from a stranger."""

RECORDS_MAX = 64
"""A hello comes in one record, or two. All of them are looked at again when a byte comes, so they must be few."""

PLAIN_TEXT_ANSWER = b"holdfast: this port wants TLS; connect with tls://\r\n"

_CLIENT_HELLO = 1
_SERVER_NAME, _ALPN = 0, 16
_BEFORE_VECTORS_BYTES = 4 + 2 + 32  # of the message: type and length, legacy version, random

Verdict = Literal["more", "whole", "plain", "large"]


class Asked(NamedTuple):
    """What a ClientHello asks for: application protocols (RFC 7301), none at all as (), and the server by its name (RFC 6066, 3)."""

    protocols: tuple[str, ...] = ()
    name: bytes = b""


def judge(data: memoryview) -> tuple[Verdict, bytes]:
    """Say what the first bytes of a connection are; with "whole", the ClientHello as far as it was found.

    Returns: "more" while the hello is not complete; "plain" for what is no TLS; "large" for a hello over HELLO_MAX_BYTES, or in more than
    RECORDS_MAX records; "whole" when OpenSSL should look: a complete hello, or something that never becomes one.
    """
    if not data:
        return "more", b""
    if not is_record(data[0], data[1] if len(data) > 1 else 3):
        return "plain", b""
    hello = bytearray()
    start = 0
    for _ in range(RECORDS_MAX):
        if len(data) - start < RECORD_HEADER_BYTES:
            return "more", b""
        size = int.from_bytes(data[start + 3 : start + 5])
        body = start + RECORD_HEADER_BYTES
        if data[start] != HANDSHAKE or data[start + 1] != 3 or not 0 < size <= RECORD_MAX_BYTES:
            return "whole", b""
        hello += data[body : body + size]
        if hello and hello[0] != _CLIENT_HELLO:
            return "whole", b""
        if len(hello) >= 4:
            wanted = int.from_bytes(hello[1:4]) + 4
            if wanted > HELLO_MAX_BYTES:
                return "large", b""
            if len(hello) >= wanted and len(data) >= body + size:
                return "whole", bytes(hello[:wanted])
        if len(data) < body + size:
            return "more", b""
        start = body + size
    return "large", b""


def read_hello(hello: bytes) -> Asked | None:
    """Return what a ClientHello asks for; None when it cannot be read, and the alert is OpenSSL's to choose."""
    protocols: tuple[str, ...] = ()
    name = b""
    try:
        rest = memoryview(hello)[_BEFORE_VECTORS_BYTES:]
        for width in (1, 2, 1):  # session id, cipher suites, compression methods
            _, rest = _vector(rest, width)
        extensions, _ = _vector(rest, 2) if rest else (rest, rest)
        while extensions:
            kind = int.from_bytes(extensions[:2])
            content, extensions = _vector(extensions[2:], 2)
            if kind == _ALPN:
                protocols = tuple(_names(_vector(content, 2)[0]))
            elif kind == _SERVER_NAME and content:
                name = bytes(_vector(_vector(content, 2)[0][1:], 2)[0])
    except ValueError:
        return None
    return Asked(protocols, name)


class Refusal(NamedTuple):
    """Why a stranger is turned away, for our side, and what it is told in words that it understands."""

    reason: str
    last_words: bytes


def refusal_of(verdict: Verdict, hello: bytes, protocols: tuple[str, ...]) -> Refusal | None:
    """Return why a stranger is not worth OpenSSL's time; None when it is.

    Args:
        verdict, hello: as `judge` gives them; not "more".
        protocols: of which it must offer one; empty when none is asked for.
    """
    asked = read_hello(hello) if hello else None
    if verdict == "plain":
        return Refusal("it sent plain text to a port that wants TLS; use tls:// on its side", PLAIN_TEXT_ANSWER)
    if verdict == "large":
        text = f"its ClientHello is larger than the {HELLO_MAX_BYTES} bytes, or in more than the {RECORDS_MAX} records, that we take"
        return Refusal(text, fatal_alert(ILLEGAL_PARAMETER))
    if asked is None:
        return None
    if not asked.name.isascii():  # Python would say so on stderr, with a traceback, once per stranger
        return Refusal("it asked for a server whose name is not ASCII", fatal_alert(UNRECOGNIZED_NAME))
    if protocols and not any(each in protocols for each in asked.protocols):
        offered = ", ".join(asked.protocols)
        text = f"it speaks {offered!r} over TLS" if offered else "it named no protocol in its TLS handshake (ALPN)"
        return Refusal(f"{text}; this port speaks {' or '.join(protocols)}", fatal_alert(NO_APPLICATION_PROTOCOL))
    return None


def _vector(data: memoryview, width: int) -> tuple[memoryview, memoryview]:
    """Split off what a length of `width` bytes announces. Raises: ValueError when it is not all there."""
    end = width + int.from_bytes(data[:width])
    if len(data) < end:
        raise ValueError
    return data[width:end], data[end:]


def _names(listed: memoryview) -> Iterator[str]:
    while listed:
        name, listed = _vector(listed, 1)
        yield bytes(name).decode("ascii", "replace")
