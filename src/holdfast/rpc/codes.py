"""Errors on the wire: the sixteen names as gRPC's numbers, and the payload of an ERROR frame.

Owns: the numbers, the shape of the payload, and which class an error becomes on the calling side. Nothing here decides whether an error
may cross (the responder does) or what is done about one (policy does). What a peer sent is read without trust: an unknown number, an
unknown key or a wrong type gives an error that can be acted on, never another exception.

The payload is a msgpack map with short keys; a key that says nothing is left out, an unknown key is skipped:
`c` code number, `m` message, `x` executed (0 no, 1 maybe, 2 yes), `r` refused by the handler in its own words, `a` retry after in
milliseconds, `d` details as plain data.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from ..errors import (
    CODE_NAMES,
    BadReply,
    Cancelled,
    CodeName,
    DeadlineExceeded,
    Executed,
    HoldfastError,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    Refused,
    Unauthenticated,
    Unavailable,
)

MESSAGE_MAX_BYTES = 4096
"""A message longer than this (in UTF-8) is cut: it is for people, and an ERROR must fit one small frame."""

DETAILS_MAX_BYTES = 32 * 1024
"""Details that encode to more are left out and the message says so: large data belongs into a reply."""

RETRY_AFTER_MAX_MS = 24 * 3600 * 1000
"""A server may ask for a day at most; more is a mistake or an attack."""

# CODE_NAMES stands in gRPC's order, so the number is the place in it; ok is 0 and never travels as an error.
NUMBER_OF: Mapping[str, int] = {name: number for number, name in enumerate(CODE_NAMES, 1)}
NAME_OF: Mapping[int, CodeName] = dict(enumerate(CODE_NAMES, 1))

EXECUTED_NUMBERS: Mapping[Executed, int] = {"no": 0, "maybe": 1, "yes": 2}
EXECUTED_NAMES: tuple[Executed, ...] = ("no", "maybe", "yes")

# `unavailable` is not here: what it becomes depends on whether the call was executed.
_CLASSES: Mapping[CodeName, type[HoldfastError]] = {
    "cancelled": Cancelled,
    "invalid_argument": InvalidArgument,
    "deadline_exceeded": DeadlineExceeded,
    "not_found": NotFound,
    "permission_denied": PermissionDenied,
    "resource_exhausted": Overloaded,
    "unimplemented": MethodNotFound,
    "internal": InternalError,
    "data_loss": BadReply,
    "unauthenticated": Unauthenticated,
}


class WireError(msgspec.Struct, frozen=True, omit_defaults=True):
    """The payload of an ERROR frame; keys as in the head of this file, numbers not yet checked."""

    code: int = msgspec.field(name="c")
    message: str = msgspec.field(name="m", default="")
    executed: int = msgspec.field(name="x", default=1)
    refused: bool = msgspec.field(name="r", default=False)
    retry_after_ms: int | None = msgspec.field(name="a", default=None)
    details: Any = msgspec.field(name="d", default=None)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(WireError).decode
_decode_plain = msgspec.msgpack.Decoder().decode


def error_to_wire(error: HoldfastError) -> WireError:
    """Give the payload that says this error to a peer. Never raises: what cannot travel is left out, and the message says so."""
    message = error.message
    details = None
    refused = isinstance(error, Refused)
    if isinstance(error, Refused) and error.details is not None:
        details, problem = _plain_details(error.details)
        if problem:
            message = f"{cut_message(message, MESSAGE_MAX_BYTES - 512)} (its details did not travel: {problem})"
    return WireError(
        code=NUMBER_OF.get(error.code, NUMBER_OF["unknown"]),
        message=cut_message(message),
        executed=EXECUTED_NUMBERS.get(error.executed, 1),
        refused=refused,
        retry_after_ms=_retry_after_ms(error.retry_after_s),
        details=details,
    )


def error_from_wire(
    code: int,
    message: str = "",
    executed: Executed = "maybe",
    retry_after_s: float | None = None,
    details: object = None,
    *,
    refused: bool = False,
) -> HoldfastError:
    """Give the error a caller sees for what the peer sent: the right class, `remote=True`.

    A number this version does not know becomes a plain HoldfastError with the code `unknown`.
    """
    name = NAME_OF.get(code, "unknown")
    if refused:
        return Refused(message, code=name, details=details, executed=executed, retry_after_s=retry_after_s, remote=True)
    if name == "unavailable":
        kind: type[HoldfastError] = Unavailable if executed == "no" else OutcomeUnknown
    else:
        kind = _CLASSES.get(name, HoldfastError)
    error = kind(message, executed=executed, retry_after_s=retry_after_s, remote=True)
    error.code = name
    return error


def encode_error(error: HoldfastError) -> bytes:
    """Give the bytes of an ERROR frame's payload. Never raises."""
    return _encode(error_to_wire(error))


def decode_error(body: bytes | memoryview) -> HoldfastError:
    """Read an ERROR frame's payload. A payload that cannot be read is an error of its own: executed maybe, code unknown."""
    try:
        wire = _decode(body)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        return HoldfastError(f"the peer answered with an error that cannot be read ({error})", remote=True)
    executed = EXECUTED_NAMES[wire.executed] if 0 <= wire.executed <= 2 else "maybe"
    retry_after_s = None if wire.retry_after_ms is None else min(max(wire.retry_after_ms, 0), RETRY_AFTER_MAX_MS) / 1000
    return error_from_wire(wire.code, cut_message(wire.message), executed, retry_after_s, wire.details, refused=wire.refused)


def cut_message(text: str, max_bytes: int = MESSAGE_MAX_BYTES) -> str:
    """Cut text to so many bytes of UTF-8, between characters, with an ellipsis; make lone surrogates harmless."""
    encoded = text[: max_bytes + 1].encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return encoded.decode()
    return encoded[: max_bytes - 3].decode("utf-8", "ignore") + "…"


def _plain_details(details: object) -> tuple[Any, str]:
    """Return details as plain data and "", or None and why they cannot travel."""
    try:
        encoded = _encode(details)
        if len(encoded) > DETAILS_MAX_BYTES:
            return None, f"{len(encoded)} bytes, at most {DETAILS_MAX_BYTES} travel"
        return _decode_plain(encoded), ""
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        return None, cut_message(str(error), 256)


def _retry_after_ms(retry_after_s: float | None) -> int | None:
    if retry_after_s is None or not retry_after_s >= 0:
        return None
    return int(min(retry_after_s * 1000, RETRY_AFTER_MAX_MS))
