"""What one side of a connection may say, and what it must not put up with, judged from bytes alone and without the machine under fuzz.

Owns: the rules of docs/en/reference/protocol.md about order, lengths and credit. A machine under fuzz may be told any nonsense; what it
says itself must be right all the same, and nonsense of some kinds it must refuse.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from zlib import crc32

PREFACE = b"\x89HFST\r\n\x01"
HELLO, WELCOME = 0x01, 0x02
CALL, REPLY, ERROR, DATA, END, CREDIT, CANCEL, PIECE = range(0x10, 0x18)
PING, PONG, STATUS, GOAWAY, ACK = range(0x20, 0x25)
MORE, TRACE, METADATA, TRAILERS = 0x01, 0x04, 0x08, 0x20

FLAGS = {
    "client": {CALL: 0x3F, DATA: 0x03, END: 0, CREDIT: 0, CANCEL: 0, PIECE: 0x01, PING: 0, PONG: 0, GOAWAY: 0, ACK: 0},
    "server": {REPLY: 0x23, ERROR: 0x20, DATA: 0x03, END: 0x20, CREDIT: 0, PIECE: 0x01, PING: 0, PONG: 0, STATUS: 0, GOAWAY: 0},
}
"""The types each side may send after the handshake, and their flags."""

CREDIT_HEAD = b"\0\0\0\x04\x15" + bytes(9)

_header = struct.Struct(">IBBQ").unpack_from


class Judge:
    """Reads what a machine of `role` says. Raises: AssertionError.

    Attributes:
        granted: connection credit it gave back.
    """

    def __init__(self, role: str) -> None:
        self._flags = FLAGS[role]
        self._first = HELLO if role == "client" else WELCOME
        self._greeted = False
        self._ended = False
        self._frame_max = 0
        self._checked = False
        self._last_id = 0
        self._over: dict[int, int] = {}
        self._replies: dict[int, bool] = {}
        self.granted = 0

    def agree(self, frame_max_bytes: int, checked: bool) -> None:
        """The handshake is done: from here on frames obey the other side."""
        self._frame_max = frame_max_bytes
        self._checked = checked

    def see(self, data: bytes) -> None:
        """Judge the next bytes it says: whole frames, because `take_output` gives nothing else."""
        at, total = 0, len(data)
        if not total:
            return
        if not self._greeted:
            assert not self._ended, f"bytes after the line to a stranger: {data[:40].hex()}"
            if data.startswith(b"holdfast: "):
                assert data.endswith(b"\r\n")
                self._ended = True
                return
            assert data.startswith(PREFACE), f"the first bytes are no preface: {data[:20].hex()}"
            at = len(PREFACE)
        while at < total:
            length, kind, flags, call_id = _header(data, at)
            assert not self._ended, f"after the last GOAWAY: {data[at : at + 40].hex()}"
            start = at + 14
            end = start + length
            assert end <= total, f"a frame of {length} bytes is not whole"
            sealed = self._checked and self._greeted
            if self._greeted:
                self._frame(kind, flags, call_id, length, data[start : start + 4])
            else:
                self._greeted = True
                assert (kind, flags, call_id) == (self._first, 0, 0) or kind == GOAWAY, f"the first frame is of type 0x{kind:02x}"
            if kind == GOAWAY:
                assert length >= 9
                assert length <= 1024 or not self._greeted
                self._ended = data[start + 8] != 0
            if sealed:
                assert data[end : end + 4] == crc32(data[at:end]).to_bytes(4), "a frame without its check sum"
                end += 4
            at = end

    def _frame(self, kind: int, flags: int, call_id: int, length: int, amount: bytes) -> None:
        known = self._flags.get(kind)
        assert known is not None, f"a frame of type 0x{kind:02x} from this side"
        assert flags & ~known == 0, f"type 0x{kind:02x} with flags 0x{flags:02x}"
        assert length <= self._frame_max or kind == GOAWAY, f"a frame of {length} bytes; the other side takes {self._frame_max}"
        if kind >= PING:
            assert call_id == 0
            return
        if call_id == 0:
            assert kind == CREDIT
            self.granted += int.from_bytes(amount)
            return
        assert call_id not in self._over, f"type 0x{kind:02x} for call {call_id}, which 0x{self._over[call_id]:02x} ended"
        if kind == CALL:
            assert call_id > self._last_id, f"call id {call_id} after {self._last_id}"
            self._last_id = call_id
        elif kind == REPLY:
            self._replies[call_id] = True
        if kind in (ERROR, CANCEL) or (kind == END and self._first == WELCOME) or (call_id in self._replies and not flags & MORE):
            self._over[call_id] = kind


def granted(chunks: Iterable[bytes | memoryview]) -> int:
    """The connection credit in what waits to be written."""
    return sum(int.from_bytes(chunk[14:]) for chunk in chunks if len(chunk) == 18 and chunk[:14] == CREDIT_HEAD)


class Tally:
    """Counts what a machine heard.

    Attributes:
        spent: connection credit that its frames cost.
        longest: the longest frame that was announced.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._greeted = False
        self.spent = 0
        self.longest = 0

    def hear(self, data: bytes) -> int:
        """Count the frames that are whole now; return how many."""
        frames = 0
        data = self._rest + data
        at, total = 0, len(data)
        if not self._greeted and data.startswith(PREFACE):
            at = len(PREFACE)
        while total - at >= 14:
            length, kind, flags, _ = _header(data, at)
            if self._greeted:
                self.longest = max(self.longest, length)
            end = at + 14 + length
            if end > total:
                break
            self._greeted = True
            self._count(kind, flags, data[at + 14 : end])
            frames += 1
            at = end
        self._rest = data[at:] if self._greeted or at == 0 else data
        return frames

    def _count(self, kind: int, flags: int, payload: bytes) -> None:
        size = len(payload)
        if kind == PIECE:
            self.spent += size
        elif kind == DATA:
            self.spent += size - (4 if flags & MORE else 0) + 64
        elif kind == REPLY and flags & MORE:
            self.spent += size - 4 - (2 + int.from_bytes(payload[4:6]) if flags & TRAILERS else 0)
        elif kind == CALL and flags & MORE:
            at = 18 + payload[17] + (25 if flags & TRACE else 0) if size > 17 else size
            if flags & METADATA:
                at += 2 + int.from_bytes(payload[at : at + 2])
            self.spent += size - at
