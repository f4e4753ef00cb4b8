"""The handshake: a preface and one frame from either side, before anything else is believed.

Owns: what happens to bytes in the states OPENING and GREETED. Nobody unknown gets more of our memory than HANDSHAKE_MAX_BYTES, and who
speaks something else gets one clear line. What is said about a stranger depends on its first bytes only, never on how they were cut.
"""

from __future__ import annotations

from ..errors import ProtocolError
from . import frames
from .events import Errored, GoneAway, HelloReceived, Opened
from .machine import Machine
from .preface import explain_stranger, judged_prefix
from .settings import Settings, decode_settings

_PREFACE_BYTES = len(frames.PREFACE)
_START = _PREFACE_BYTES + frames.HEADER_BYTES
HANDSHAKE_BYTES = _START + frames.HANDSHAKE_MAX_BYTES
"""All that can come before a connection is open."""
_TOO_SOON = "frames came before the WELCOME; a client waits for it"


class Opening(Machine):
    """A machine that can shake hands."""

    __slots__ = ()

    def receive_eof(self) -> None:
        """The peer will send no more. For a client that was not welcomed yet, and after a stranger's few bytes, that is an error."""
        if self.state != "OPENING":
            return
        if self._seen:
            self._stranger(self._seen)
        elif self._role == "client":
            self.fail(frames.PROTOCOL, "the server closed the connection before it welcomed us")

    def _receive_opening(self, data: memoryview, total: int) -> int:
        """Use the preface and the one frame of the handshake, when they are whole; the state tells what came of it."""
        if self.state != "OPENING":
            if self.state == "GREETED" and total:
                self.fail(frames.PROTOCOL, _TOO_SOON)
            return total
        seen = bytes(data[:_PREFACE_BYTES])
        if seen != frames.PREFACE[: len(seen)]:
            return self._odd_bytes(seen, total)
        if total < _START:
            return 0
        length, kind, flags, call_id = frames.HEADER.unpack_from(data, _PREFACE_BYTES)
        expected = frames.HELLO if self._role == "server" else frames.WELCOME
        refusal = kind == frames.GOAWAY and self._role == "client"
        if (kind != expected and not refusal) or flags or call_id:
            self.fail(frames.PROTOCOL, f"expected {frames.name_of(expected)} without flags and call id, got {frames.name_of(kind)}")
            return total
        if length > frames.HANDSHAKE_MAX_BYTES:
            self.fail(frames.TOO_LARGE, f"a handshake of {length} bytes; the limit is {frames.HANDSHAKE_MAX_BYTES}")
            return total
        end: int = _START + length
        if total < end:
            return 0
        if refusal:
            self._refused_at_the_door(data[_START:end])
            return total
        try:
            remote = decode_settings(bytes(data[_START:end]))
        except ProtocolError as error:
            self.fail(frames.PROTOCOL, str(error))
            return total
        return self._greet(remote, end, total)

    def _greet(self, remote: Settings, end: int, total: int) -> int:
        self.remote = remote
        # No longer frames than we take ourselves: a whole frame draws on no budget, and a peer may say that it takes 16 MiB.
        self.outbox.open(min(remote.frame_max_bytes, self.local.frame_max_bytes), remote.connection_window_bytes)
        if self._role == "client":
            self.inbox.open(self.local)
            self._checked = frames.CHECKED in self.local.features and frames.CHECKED in remote.features
            self.state = "OPEN"
            self._allow_lone()
            self.events.append(Opened(remote))
            return end
        self.state = "GREETED"
        self.events.append(HelloReceived(remote))
        if total > end:
            self.fail(frames.PROTOCOL, _TOO_SOON)
            return total
        return end

    def _refused_at_the_door(self, payload: memoryview) -> None:
        """The server would not have us, and says why."""
        if not self._on_goaway(payload):
            return
        self.state = "ERROR"
        self.outbox.clear()

    def _on_goaway(self, payload: memoryview) -> bool:
        if len(payload) < frames.GOAWAY_HEAD.size:
            self._wrong_length(frames.GOAWAY, len(payload))
            return False
        last_id, reason = frames.GOAWAY_HEAD.unpack_from(payload)
        message = bytes(payload[frames.GOAWAY_HEAD.size :]).decode("utf-8", "replace")[:1000]
        self.events.append(GoneAway(last_id, reason, message))
        return True

    def _odd_bytes(self, seen: bytes, total: int) -> int:
        """Not our preface. Wait until there is enough to tell by what it is, or the end of the stream."""
        judged = judged_prefix(seen)
        if judged is None:
            self._seen = seen
            return 0
        self._stranger(judged)
        return total

    def _stranger(self, seen: bytes) -> None:
        """Somebody who does not speak our protocol: one clear line, then the end."""
        who, line = explain_stranger(seen, self._role)
        self.state = "ERROR"
        self.outbox.clear()
        if self._role == "server":
            self._last_words = line
        self.events.append(Errored(ProtocolError(who, executed="no")))
