"""Who is it that does not speak our protocol? One clear answer for them, one for us."""

from __future__ import annotations

from typing import Literal

from . import frames

_HTTP = (b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"TRAC", b"PRI ", b"HTTP")
_TLS_HANDSHAKE = b"\x16\x03"
_TLS_ALERT = b"\x15\x03"
_OUR_WORDS = b"holdfast"  # as a line for strangers begins; no more of it is waited for
_MAGIC = frames.PREFACE[:-1]


def judged_prefix(seen: bytes) -> bytes | None:
    """Return the bytes a stranger is judged by: its first line, at most as long as our preface. None while more must come.

    Judging by a fixed beginning makes the verdict the same however the bytes were cut on their way.
    """
    if not seen.startswith(_MAGIC):
        line_end = seen.find(b"\n") + 1
        if line_end:
            return seen[:line_end]
    return seen if len(seen) >= len(frames.PREFACE) else None


def explain_stranger(seen: bytes, role: Literal["client", "server"]) -> tuple[str, bytes]:
    """Return what to tell our own side, and the line to send a stranger before the connection is closed.

    Args:
        seen: the first bytes that came; they are not our preface.
        role: ours. A client sends nothing back.
    """
    if seen.startswith(_MAGIC) and len(seen) > len(_MAGIC):
        what = f"it speaks version {seen[len(_MAGIC)]} of the holdfast protocol; we speak version {frames.VERSION}"
    elif seen.startswith(_TLS_HANDSHAKE):
        what = "it sent a TLS handshake to a plain port; use tcp:// on its side, or serve tls:// here"
    elif seen.startswith(_TLS_ALERT):
        what = "it answered with a TLS alert: that port wants TLS; connect with tls://"
    elif seen.startswith(_OUR_WORDS) and role == "client":
        what = "it is a holdfast server that turned us away; most likely that port wants TLS: connect with tls://"
    elif seen.startswith(_HTTP):
        what = f"it speaks HTTP ({_printable(seen)})"
    else:
        what = f"it sent {_printable(seen)}"
    who = "server" if role == "client" else "peer"
    line = f"holdfast: this port speaks the holdfast protocol, version {frames.VERSION}; {what}.\r\n".encode()
    return f"the {who} does not speak the holdfast protocol: {what}", line


def _printable(seen: bytes) -> str:
    text = seen.split(b"\n", 1)[0].strip().decode("ascii", "replace")
    return repr(text) if text and text.isascii() and text.isprintable() else f"bytes {seen.hex(' ')}"
