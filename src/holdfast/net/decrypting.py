"""Records into what they hold: the half of a TLS link that a read goes through.

Owns: what OpenSSL is fed, in which pieces, and the records without data a peer may send. Handshake, writing and the end are in `tls.py`.

Theory. Only whole records are fed, so that OpenSSL finishes what it begins and the hot path raises no exception. A memory BIO never
shrinks, so it is fed and emptied in pieces of one record's size. What is decrypted goes to a scratch of the thread, and is offered to the
receiver above as one piece (`rest.py`).

Nearly all reads are a few small records of data: they take the short way in `bytes_received`, which is the long one without everything that
such a read does not need. All else goes to `_received`.

What may never happen here: a read that the two ways understand differently; an exception of OpenSSL that is not told to `_broken`.
"""

from __future__ import annotations

import ssl

from .alerts import too_idle
from .records import DATA_PER_IDLE, IDLE_MAX, OVERHEAD_BYTES, PIECE_MAX_BYTES, count_data_records, count_records, end_of_records
from .rest import Offering, scratch_of_this_thread

SHORT_READ_BYTES = 8 * 1024
"""A read up to this may take the short way. It is less than a piece (`records.py`), so it is one."""


class Decrypting(Offering):
    """A link that is told of records and offers what they hold."""

    __slots__ = ("_ending", "_idle", "_incoming", "_is_heard", "_outgoing", "_sslobj")

    def __init__(self) -> None:
        super().__init__(scratch_of_this_thread("tls"), "")
        self._sslobj: ssl.SSLObject | None = None
        self._incoming: ssl.MemoryBIO | None = None
        self._outgoing: ssl.MemoryBIO | None = None
        self._is_heard = False  # data has come
        self._ending = False  # their close_notify has come
        self._idle = 0  # records without data, each as DATA_PER_IDLE, less those with data

    def bytes_received(self, data: memoryview | bytes) -> int:
        """Take whole records; return how many bytes they are."""
        size = len(data)
        if not self._is_heard or size > SHORT_READ_BYTES or self._paused or self._closing or self._idle:
            return self._received(data)
        sslobj, incoming, outgoing, records = self._sslobj, self._incoming, self._outgoing, count_data_records(data)
        if not records or sslobj is None or incoming is None or outgoing is None:
            return self._received(data)
        incoming.write(data)
        scratch, filled, reads = self._scratch, 0, 0
        stop: ssl.SSLError | None = None
        try:
            while incoming.pending:
                count: int = sslobj.read(size, scratch[filled:] if filled else scratch)  # type: ignore[assignment] # it says str, and is int
                if not count:
                    stop = ssl.SSLZeroReturnError()
                    break
                filled += count
                reads += 1
        except ssl.SSLWantReadError:
            pass  # records without data
        except ssl.SSLError as error:
            stop = error.with_traceback(None)  # it leads to this frame, which holds the error: a circle with OpenSSL's objects in it
        if reads != records and stop is None:
            stop = self._count_idle(records, reads)
        if outgoing.pending:
            self._flush()
        if filled:
            self.data_received(bytes(scratch[:filled]))
        if stop is not None and not self._closing:
            self._stopped(stop)
        return size

    def _decrypt(self, data: memoryview, used: int) -> int:
        """Turn whole records into one piece of plaintext and offer it, as often as the scratch is full. Returns how much was used."""
        while True:
            filled, used, stop = self._fill(self.get_buffer(-1), data, used)
            self._flush()
            if filled:
                if not self._is_heard:
                    self._is_heard = True
                    self._heard()
                self.buffer_updated(filled)
            if self._closing:
                return len(data)
            if stop is not None:
                self._stopped(stop)
                return len(data)
            if used == len(data) or self._paused or end_of_records(data, used) == used:
                return used

    def _fill(self, space: memoryview, data: memoryview, used: int) -> tuple[int, int, ssl.SSLError | None]:
        """Decrypt into `space` while it has room for a whole piece.

        Returns: how many bytes came, how many of `data` were used by then, and what stopped it: the peer's close_notify, or an error.
        """
        sslobj, incoming = self._sslobj, self._incoming
        assert sslobj is not None
        assert incoming is not None
        room, filled, start = len(space), 0, used
        while True:
            before, reads = filled, 0
            try:
                while incoming.pending:
                    count: int = sslobj.read(room - filled, space[filled:])  # type: ignore[assignment] # it says str, and is int
                    if not count:
                        return filled, used, ssl.SSLZeroReturnError()
                    filled += count
                    reads += 1
            except ssl.SSLWantReadError:
                pass  # records without data: tickets, new keys
            except ssl.SSLError as error:
                return filled, used, error.with_traceback(None)  # as in `bytes_received`
            if used - start > filled - before + reads * OVERHEAD_BYTES or self._idle:
                stop = self._count_idle(count_records(data, start, used), reads)
                if stop is not None:
                    return filled, used, stop
            start = used
            if used < len(data) and room - filled >= PIECE_MAX_BYTES:
                used = end_of_records(data, used)
            if used == start:
                return filled, used, None
            incoming.write(data[start:used])

    def _count_idle(self, records: int, reads: int) -> ssl.SSLError | None:
        """So many records came, and so many of them held data. Returns what stops a peer that sends too many others."""
        self._idle = max(0, self._idle + (records - reads) * DATA_PER_IDLE - reads)
        return too_idle() if self._idle > IDLE_MAX * DATA_PER_IDLE else None

    def _stopped(self, stop: ssl.SSLError) -> None:
        """What was decrypted before it has been offered: the end, in good order or not."""
        if isinstance(stop, ssl.SSLZeroReturnError):
            self._ending = True
            self._ended()
        else:
            self._broken(stop)

    def _received(self, data: memoryview | bytes) -> int:
        """As `bytes_received`, for what is not as simple as it mostly is."""
        raise NotImplementedError

    def _flush(self) -> None:
        """Write what OpenSSL has to say."""
        raise NotImplementedError

    def _heard(self) -> None:
        """Data has come, for the first time."""
        raise NotImplementedError

    def _ended(self) -> None:
        """Their close_notify has come."""
        raise NotImplementedError

    def _broken(self, error: ssl.SSLError) -> None:
        """OpenSSL gave up on the peer, or we did."""
        raise NotImplementedError
