"""What a server says about itself while a connection is open: STATUS, and the trailers of an answer.

Both are msgpack maps whose unknown keys are skipped and whose missing ones have the values written here, so later versions may say more.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from ..errors import ProtocolError

TEXT_MAX = 256
HOPS_MAX_BYTES = 7 * 1024


class Status(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a server is. A client that has others to choose from prefers those that serve, do not drain, and are loaded less.

    Attributes:
        serving: it can do its work; False when something it needs is missing, and `message` says what.
        draining: it is going down: open calls are answered, and new ones had better go elsewhere.
        load: 0 idle to 1 full: the part of its handlers that is busy.
        message: for people.
    """

    serving: bool = True
    draining: bool = False
    load: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    message: Annotated[str, msgspec.Meta(max_length=TEXT_MAX)] = ""


class Trailers(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a server says beside an answer, when it was asked.

    Attributes:
        queue_us: from the call's last byte to the start of its handler, in microseconds.
        run_us: from there to the answer.
        load: as in Status, when it answered.
        hops: what explains the calls its handler made to answer, as msgpack; empty when there were none, or nobody may know.
    """

    queue_us: Annotated[int, msgspec.Meta(ge=0)] = 0
    run_us: Annotated[int, msgspec.Meta(ge=0)] = 0
    load: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    hops: Annotated[bytes, msgspec.Meta(max_length=HOPS_MAX_BYTES)] = b""


_encode = msgspec.msgpack.Encoder().encode
_decode_status = msgspec.msgpack.Decoder(Status).decode
_decode_trailers = msgspec.msgpack.Decoder(Trailers).decode


def encode_status(status: Status) -> bytes:
    """Return the payload of a STATUS."""
    return _encode(status)


def decode_status(payload: bytes) -> Status:
    """Return what the server says of itself. Raises: ProtocolError."""
    try:
        return _decode_status(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError) as error:
        raise ProtocolError(f"a STATUS that cannot be used: {error}") from None


def encode_trailers(trailers: Trailers) -> bytes:
    """Return trailers as they travel."""
    return _encode(trailers)


def decode_trailers(payload: bytes) -> Trailers | None:
    """Return trailers, or None when they cannot be read: they are beside the point of the call, and never end it."""
    try:
        return _decode_trailers(payload)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, ValueError):
        return None
