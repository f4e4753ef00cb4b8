"""TLS between two links: a Receiver to the link below, a Link to the receiver above.

Owns: the TLS state of one connection, from its first byte to its close_notify, and what each end of it means.

Theory. asyncio's own TLS keeps 256 KiB per connection, tells nobody why a handshake failed, and takes a cut connection for an orderly end.
Here `ssl.SSLObject` works on two memory BIOs, and:

- The link below is told that only whole records were used; it keeps the rest. What becomes of them is in `decrypting.py`.
- A server spends nothing on a stranger: OpenSSL's objects are made when the whole ClientHello is there, the receiver above when the
  handshake is done.
- After every operation, above all one that raised, what OpenSSL has to say is written: the alert leaves before the close.
- Only close_notify is an orderly end (RFC 8446, 6.1). A stream that ends without it was cut, by a crash or by somebody in between.

What may never happen here: a receiver that takes a cut stream for a whole one; a reference that keeps a dead connection alive.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence

from ..context import PeerCertificate
from ..control.wheel import Timer, Wheel
from .alerts import cut_off, explain
from .certificate import peer_certificate
from .decrypting import Decrypting
from .hello import judge, refusal_of
from .link import Link, Receiver
from .records import PIECE_BYTES, end_of_records


class Refused(Exception):
    """A handshake that came to nothing. The text says why, for people."""


class Opening:
    """What a TlsLink asks of whoever wants it, until it is open: one object per listener, one per connect.

    Args:
        make_receiver: called when the handshake is complete.
        timeout_s: how long the handshake may take.
        protocols: of which one must be agreed (ALPN); empty when none is asked for.
    """

    waits_for_hello = False

    def __init__(self, make_receiver: Callable[[], Receiver], wheel: Wheel, timeout_s: float, protocols: tuple[str, ...]) -> None:
        self.make_receiver = make_receiver
        self.wheel = wheel
        self.timeout_s = timeout_s
        self.protocols = protocols

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        """Make OpenSSL's part."""
        raise NotImplementedError

    def began(self, link: TlsLink) -> bool:
        """The link below is there. Return whether it is still wanted."""
        return True

    def has_ended(self, sslobj: ssl.SSLObject) -> bool:
        """Whether what the peer proved in the handshake that is resumed has expired since: OpenSSL does not look again."""
        return False

    def opened(self, link: TlsLink) -> None:
        """The receiver is there and the link is open."""

    def heard(self, sslobj: ssl.SSLObject) -> None:
        """The peer sent something after the handshake: a ticket for the next time has come too, if it gave one."""

    def refused(self, link: TlsLink, error: Exception) -> None:
        """The link never opened. Told once."""

    def gone(self, link: TlsLink) -> None:
        """A link that was refused is lost, or as good as. One that was opened and never heard from may be told here too."""


class TlsLink(Decrypting):
    """One TLS connection.

    Attributes:
        certificate: what the peer proved; None when it showed none.
    """

    __slots__ = ("_below", "_full", "_opening", "_timer", "_unheard", "certificate", "local")

    def __init__(self, opening: Opening) -> None:
        super().__init__()
        self._opening: Opening | None = opening  # until we are open or refused
        self._unheard: Opening | None = None  # and then until the first bytes of the peer, or until we are lost
        self._below: Link | None = None
        self._timer: Timer | None = None
        self._full = False  # the link below asked us to pause
        self.certificate: PeerCertificate | None = None
        self.local = ""

    # ---------------------------------------------------------------------------------------------------- Link, for the receiver

    def write(self, data: bytes) -> bool:
        sslobj, outgoing, below = self._sslobj, self._outgoing, self._below
        if self._closing or sslobj is None or outgoing is None or below is None:
            return False
        try:
            if 0 < len(data) <= PIECE_BYTES:
                sslobj.write(data)
                return below.write(outgoing.read())
            view = memoryview(data)
            pieces = []
            for start in range(0, len(view), PIECE_BYTES):
                sslobj.write(view[start : start + PIECE_BYTES])
                pieces.append(outgoing.read())
        except ssl.SSLError as error:
            self._broken(error)
            return False
        return below.write(b"".join(pieces))

    def write_chunks(self, chunks: Sequence[bytes | memoryview]) -> bool:
        return self.write(b"".join(chunks))

    def write_buffer_bytes(self) -> int:
        return 0 if self._below is None else self._below.write_buffer_bytes()

    def set_write_limits(self, high_bytes: int, low_bytes: int) -> None:
        if not self._closing and self._below is not None:
            self._below.set_write_limits(high_bytes, low_bytes)

    def pause_reading(self) -> None:
        if not self._closing and not self._paused and self._below is not None:
            self._paused = True
            self._below.pause_reading()

    def resume_reading(self) -> None:
        if not self._closing and self._paused:
            self._resume_reading()

    def close(self) -> None:
        if self._closing:
            return
        self._let_go()
        if self._sslobj is not None and self._receiver is not None:
            self._say_goodbye(self._sslobj)
            self._flush()
        if self._below is not None:
            self._below.close()

    def abort(self) -> None:
        self._let_go()
        if self._below is not None:
            self._below.abort()

    def is_closing(self) -> bool:
        return self._closing

    @property
    def ssl_object(self) -> ssl.SSLObject | None:
        """OpenSSL's part, to ask for the cipher, the agreed protocol, the certificate; None before there is one, and at the end."""
        return self._sslobj

    # ------------------------------------------------------------------------------------------------- Receiver, for the link below

    def link_made(self, link: Link) -> None:
        """The clock of the handshake starts; a client speaks first."""
        opening = self._opening
        if opening is None or self._closing:
            link.abort()
            return
        self._below = link
        self.local, self.peer = tls_name(link.local), tls_name(link.peer)
        if not opening.began(self):
            self.abort()
            return
        wheel = opening.wheel
        self._timer = wheel.at(wheel.now() + opening.timeout_s, self._late)
        if not opening.waits_for_hello:
            self._begin(opening)
            self._shake()

    def _received(self, data: memoryview | bytes) -> int:
        """Take whole records: to the handshake until it is done, and then to the receiver above."""
        if self._closing:
            return len(data)
        view = memoryview(data)
        if self._opening is None:
            return self._decrypt(view, 0)
        used = self._shake_with(view, self._opening)
        return used if self._opening is not None or self._closing else self._decrypt(view, used)

    def eof_received(self) -> None:
        """The stream below ended. Without a close_notify before that, it was cut."""
        if self._opening is not None:
            self._refuse(Refused("the connection was closed during the TLS handshake"))
        elif not self._closing and not self._ending:
            self._fail(cut_off(self.peer))

    def pause_writing(self) -> None:
        """As below."""
        self._full = True
        if self._receiver is not None and not self._closing:
            self._receiver.pause_writing()

    def resume_writing(self) -> None:
        """As below."""
        self._full = False
        if self._receiver is not None and not self._closing:
            self._receiver.resume_writing()

    def link_lost(self, error: Exception | None) -> None:
        """The end. What points at others is let go first: OpenSSL's objects free their memory here, not when a collector comes."""
        orderly = self._closing or self._ending
        receiver, self._receiver = self._receiver, None
        opening, last = self._opening, self._opening or self._unheard
        self._let_go()
        self._below = self._sslobj = self._incoming = self._outgoing = self._unheard = None
        if opening is not None:
            self._opening = None
            self.error = self.error or error
            opening.refused(self, error or Refused("the connection was closed during the TLS handshake"))
        elif self.error is None:
            self.error = error if error is not None or orderly else cut_off(self.peer)
        if last is not None:
            last.gone(self)
        if receiver is not None:
            receiver.link_lost(self.error)

    # ---------------------------------------------------------------------------------------------------------------- handshake

    def _begin(self, opening: Opening) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._sslobj = opening.begin(self._incoming, self._outgoing)

    def _shake_with(self, data: memoryview, opening: Opening) -> int:
        """Feed the handshake; return how many bytes were used. Once it is done the rest is left to `_decrypt`."""
        if self._incoming is None:
            verdict, hello = judge(data)
            if verdict == "more":
                return 0
            refusal = refusal_of(verdict, hello, opening.protocols)
            if refusal is not None:
                self._refuse(Refused(refusal.reason), refusal.last_words)
                return len(data)
            self._begin(opening)
        used = 0
        while self._opening is not None:
            end = end_of_records(data, used)
            if end == used:
                return used
            assert self._incoming is not None
            self._incoming.write(data[used:end])
            used = end
            self._shake()
        return len(data) if self._closing else used

    def _shake(self) -> None:
        sslobj, opening = self._sslobj, self._opening
        assert sslobj is not None
        assert opening is not None
        try:
            sslobj.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
        except ssl.SSLError as error:
            self._refuse(Refused(explain(error, server_side=sslobj.server_side)))
        else:
            self._flush()
            self._open(sslobj, opening)

    def _open(self, sslobj: ssl.SSLObject, opening: Opening) -> None:
        """The handshake is done: only now is there a receiver."""
        reason = ""
        if opening.protocols and sslobj.selected_alpn_protocol() not in opening.protocols:
            reason = f"it speaks TLS and agreed to no protocol of ours ({' or '.join(opening.protocols)}, by ALPN)"
        elif sslobj.session_reused and opening.has_ended(sslobj):
            reason = "it resumed a session, and the certificate it showed at its beginning is expired; renew it there"
        if reason:
            self._say_goodbye(sslobj)
            self._refuse(Refused(reason))
            return
        self._opening = None
        self._unheard = opening
        self._unwatch()
        try:
            self.certificate = peer_certificate(sslobj)
            receiver = self._receiver = opening.make_receiver()
            receiver.link_made(self)
        except Exception as error:
            self._fail(error)
            opening.refused(self, error)
            return
        opening.opened(self)
        if self._full and not self._closing:
            receiver.pause_writing()

    def _refuse(self, error: Exception, last_words: bytes = b"") -> None:
        """The handshake came to nothing. What OpenSSL or we have to say leaves before the close."""
        opening, self._opening = self._opening, None
        self.error = error
        self._unheard = opening
        self._let_go()
        self._flush()
        if self._below is not None:
            self._below.write(last_words)
            self._below.close()
        if opening is not None:
            opening.refused(self, error)

    def _late(self) -> None:
        if self._opening is not None:
            self.turn_away(f"no TLS handshake within {self._opening.timeout_s:g} s")

    def turn_away(self, reason: str) -> None:
        """Cut a link that is not open yet."""
        self._refuse(Refused(reason))
        self.abort()
        if self._unheard is not None:
            self._unheard.gone(self)

    def _heard(self) -> None:
        if self._unheard is not None and self._sslobj is not None:
            self._unheard.heard(self._sslobj)
            self._unheard = None

    # ---------------------------------------------------------------------------------------------------------------------- end

    def _ended(self) -> None:
        """Their close_notify: the receiver may still answer; then it is our turn. One that has paused hears of it when it reads again."""
        if self._paused or self._closing:
            return
        try:
            if self._receiver is not None:
                self._receiver.eof_received()
        except Exception as error:
            self._fail(error)
        self.close()

    def _say_goodbye(self, sslobj: ssl.SSLObject) -> None:
        try:
            sslobj.unwrap()
        except ssl.SSLError:
            pass  # it wants to read their close_notify; ours is on its way all the same

    def _broken(self, error: ssl.SSLError) -> None:
        """OpenSSL gave up on the peer, or the peer on us. Its alert leaves, then the link closes."""
        server_side = self._sslobj is not None and self._sslobj.server_side
        self.error = self.error or ConnectionAbortedError(f"{self.peer}: {explain(error, server_side=server_side)}")
        self._let_go()
        self._flush()
        if self._below is not None:
            self._below.close()

    def _fail(self, error: Exception) -> None:
        self.error = self.error or error
        self.abort()

    def _let_go(self) -> None:
        self._closing = True
        self._forget_rest()
        self._unwatch()

    def _unwatch(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _flush(self) -> None:
        if self._outgoing is not None and self._outgoing.pending and self._below is not None:
            self._below.write(self._outgoing.read())

    def _read_on(self) -> None:
        if self._ending:
            asyncio.get_running_loop().call_soon(self._ended)
        elif self._below is not None:
            self._below.resume_reading()


def tls_name(name: str) -> str:
    """The printable end of the link below, as one of ours."""
    return f"tls://{name.partition('://')[2]}" if name.startswith("tcp://") else name
