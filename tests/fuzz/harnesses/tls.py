"""TLS between two links: any bytes from a stranger, and a real handshake and session whose records are changed on their way.

    first byte: our side, and which of the two · second: how it is cut · the rest: the stranger's bytes, or a script

Every session has other keys, so an input names records and places in them, never bytes. Nothing that is not what the peer wrote may
arrive, and no end may be taken for another: that holds whatever the script does.
"""

from __future__ import annotations

import functools
import ssl
from asyncio import events as loops
from collections import deque
from collections.abc import Callable, Sequence

from holdfast.control.wheel import Wheel
from holdfast.net.link import Link
from holdfast.net.tls import Opening, TlsLink
from tests.fuzz.script import Script
from tests.net.papers import HOLDFAST, papers

KEPT_MAX_BYTES = 64 * 1024
ROUNDS_MAX = 400
PIECES_MAX = 64
SCRIPT_MAX_BYTES = 150
SLOW_S = 0.2
"""An input is two handshakes and what two sides have to say after them: milliseconds of OpenSSL's time."""


class Loop:
    """As much of a loop as a link needs: callbacks that come later."""

    def __init__(self) -> None:
        self.soon: deque[Callable[[], object]] = deque()

    def call_soon(self, callback: Callable[..., object], *arguments: object) -> None:
        self.soon.append(functools.partial(callback, *arguments))

    def turn(self) -> None:
        while self.soon:
            self.soon.popleft()()


@functools.cache
def contexts() -> dict[str, ssl.SSLContext]:
    """Ours and those of a peer that is not ours."""
    made = papers()
    ours = {"server": made.server_contexts().current, "client": made.client_contexts().current}
    return {**ours, "their server": made.plain_server(*HOLDFAST), "their client": made.plain_client(*HOLDFAST)}


class Begun(Opening):
    """What asks for a handshake: as `secure.py` does for either side, without its facts."""

    def __init__(self, side: str, run: Run, wheel: Wheel) -> None:
        super().__init__(lambda: Above(run), wheel, 5.0, HOLDFAST)
        self.side = side
        self.run = run
        self.waits_for_hello = side == "server"

    def begin(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO) -> ssl.SSLObject:
        if self.side == "server":
            return contexts()["server"].wrap_bio(incoming, outgoing, server_side=True)
        return contexts()["client"].wrap_bio(incoming, outgoing, server_hostname="localhost")

    def opened(self, link: TlsLink) -> None:
        self.run.log.append("opened")

    def refused(self, link: TlsLink, error: Exception) -> None:
        assert str(error)
        assert "refused" not in self.run.log, "it was refused twice"
        self.run.log.append("refused")


class Above:
    """The receiver above: takes what comes, all of it or a part, and keeps the order of calls."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def link_made(self, link: Link) -> None:
        self.run.log.append("made")

    def bytes_received(self, data: memoryview | bytes) -> int:
        run = self.run
        assert "lost" not in run.log
        assert "eof" not in run.log
        used = len(data) if run.greed else len(data) - len(data) // 3
        run.got += data[:used]
        return used

    def eof_received(self) -> None:
        self.run.log.append("eof")

    def link_lost(self, error: Exception | None) -> None:
        run = self.run
        assert "lost" not in run.log, "link_lost came twice"
        run.log.append("lost")
        run.lost_error = error

    def pause_writing(self) -> None:
        assert "lost" not in self.run.log

    def resume_writing(self) -> None:
        assert "lost" not in self.run.log


class Below:
    """The link below: what was written, and whether it was closed."""

    certificate = None
    local, peer = "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"

    def __init__(self) -> None:
        self.out = bytearray()
        self.closing = ""
        self.paused = False

    def write(self, data: bytes) -> bool:
        if self.closing:
            return False
        self.out += data
        return True

    def write_chunks(self, chunks: Sequence[bytes | memoryview]) -> bool:
        return self.write(b"".join(chunks))

    def write_buffer_bytes(self) -> int:
        return 0

    def set_write_limits(self, high_bytes: int, low_bytes: int) -> None: ...

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def close(self) -> None:
        self.closing = self.closing or "close"

    def abort(self) -> None:
        self.closing = "abort"

    def is_closing(self) -> bool:
        return bool(self.closing)


class Peer:
    """The other side, with Python's own TLS; what it says is kept record by record."""

    def __init__(self, side: str) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = contexts()["their server" if side == "client" else "their client"]
        server = side == "client"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server, server_hostname=None if server else "localhost")
        self.open = self.broken = self.said_goodbye = False
        self.got = bytearray()
        self.sent = bytearray()
        self.records: deque[bytes] = deque()

    def step(self, heard: bytes = b"") -> None:
        """Hear, go on with the handshake or read, and put what it says among the records."""
        self.incoming.write(heard)
        try:
            if not self.open and not self.broken:
                self.tls.do_handshake()
                self.open = True
            while not self.broken:
                data = self.tls.read(65_536)
                if not data:
                    break
                self.got += data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            self.broken = True
        self.collect()

    def write(self, data: bytes) -> None:
        if self.open and not self.broken and not self.said_goodbye:
            self.tls.write(data)
            self.sent += data
            self.collect()

    def goodbye(self) -> None:
        if self.open and not self.broken and not self.said_goodbye:
            self.said_goodbye = True
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass
            self.collect()

    def collect(self) -> None:
        said = self.outgoing.read()
        while len(said) >= 5:
            end = 5 + int.from_bytes(said[3:5])
            self.records.append(said[:end])
            said = said[end:]


class Run:
    """One link from `link_made` to `link_lost`."""

    def __init__(self, side: str, step: int) -> None:
        self.loop = Loop()
        self.below = Below()
        self.log: list[str] = []
        self.got = bytearray()
        self.greed = self.always_greedy = True
        self.lost_error: Exception | None = None
        self.wrote = bytearray()
        self.step = step
        self.rest = b""
        self.tampered = self.ours = self.cut = self.ended_below = False
        self.link = TlsLink(Begun(side, self, Wheel(lambda: 0.0, lambda when, callback: None)))
        self.link.link_made(self.below)

    def feed(self, data: bytes) -> None:
        """Bytes from below, in pieces, as a link below offers them: what was not used is put in front of the next."""
        step = max(self.step, len(data) // PIECES_MAX)
        for start in range(0, len(data), step):
            self.rest += data[start : start + step]
            self.offer()

    def offer(self) -> None:
        if self.below.paused or self.below.closing or self.ended_below or not self.rest:
            return
        buffer = bytearray(self.rest)
        used = self.link.bytes_received(memoryview(buffer))
        assert 0 <= used <= len(buffer)
        self.rest = self.rest[used:]
        buffer[:] = b"\xaa" * len(buffer)
        self.loop.turn()
        if not self.below.paused:
            assert len(self.rest) < KEPT_MAX_BYTES, f"{len(self.rest)} bytes wait below"

    def end_below(self) -> None:
        if not self.ended_below and not self.below.closing:
            self.link.eof_received()
        self.ended_below = True

    def over(self) -> None:
        """The link below is gone; whatever is called now does nothing."""
        self.link.link_lost(None)
        self.loop.turn()
        before = list(self.log)
        for act in (self.link.close, self.link.abort, self.link.pause_reading, self.link.resume_reading, self.link.resume_writing):
            act()
        self.link.write(b"late")
        assert self.link.is_closing()
        assert self.link.write_buffer_bytes() == 0
        self.loop.turn()
        assert self.log == before, "something came after link_lost"
        assert ("made" in self.log) == ("lost" in self.log)
        assert ("made" in self.log) != ("refused" in self.log), "a link opens or is refused, and one of them happens"

    def check_end(self, peer: Peer) -> None:
        """Nothing came that the peer did not write, and every end was called by its name."""
        assert peer.sent.startswith(self.got), "bytes arrived that the peer did not write"
        assert self.wrote.startswith(peer.got)
        if "eof" in self.log:
            assert peer.said_goodbye
            assert self.got == peer.sent or not self.always_greedy, "an orderly end, and bytes are missing"
        elif "made" in self.log and not self.ours:
            assert self.cut or self.tampered or not peer.said_goodbye, "the peer ended in order, and nobody was told"
            assert self.lost_error is not None, "a stream that was cut was taken for a whole one"
        if not self.tampered and not self.ours and not self.ended_below and peer.open and self.always_greedy:
            assert self.got == peer.sent, "what the peer wrote did not arrive"


def one(data: bytes) -> None:
    """Run one input."""
    head, step = (data[0] if data else 0), (data[1] if len(data) > 1 else 0)
    side = "client" if head & 1 else "server"
    previous = loops._get_running_loop()
    runs = [Run(side, size) for size in (1 << 20, 1 + step)]
    try:
        for run in runs:
            loops._set_running_loop(run.loop)  # type: ignore[arg-type]
            if head & 2:
                session(run, side, Script(data[2 : 2 + SCRIPT_MAX_BYTES]), at_once=head & 4 == 0)
            else:
                stranger(run, data[2:])
    finally:
        loops._set_running_loop(previous)
    whole, cut = runs
    if not whole.tampered or head & 4:  # a changed handshake may end in more than one way: its records are as long as chance has it
        assert (cut.log, cut.got) == (whole.log, whole.got), "it depends on how the bytes were cut"


def stranger(run: Run, data: bytes) -> None:
    """Bytes that are nobody's TLS."""
    run.feed(data)
    run.end_below()
    run.over()
    assert not run.got
    assert "made" not in run.log, "a handshake without a peer came to its end"


def session(run: Run, side: str, script: Script, *, at_once: bool) -> None:
    """A real peer on the other side of somebody who changes records. Without `at_once` the handshake is left alone."""
    peer = Peer(side)
    if not at_once:
        exchange(run, peer)
    while not script.over and not run.below.closing and not run.ended_below:
        act(run, peer, script.byte(), script.byte(), script.byte())
    exchange(run, peer)
    if not run.below.closing and not run.ours and not run.tampered and not run.ended_below:
        peer.goodbye()
        exchange(run, peer)
    if not run.ended_below and not run.below.closing and not run.below.paused:
        run.end_below()
    run.over()
    run.check_end(peer)


def exchange(run: Run, peer: Peer) -> None:
    """Let both say what they have to, until nothing moves."""
    if run.below.paused and not run.below.closing:
        run.link.resume_reading()
        run.loop.turn()
        run.offer()
    for _ in range(ROUNDS_MAX):
        said = bytes(run.below.out)
        run.below.out.clear()
        peer.step(said)
        if not peer.records and not said:
            return
        while peer.records and not run.ended_below:
            run.feed(peer.records.popleft())
        if run.ended_below:
            return
    raise AssertionError("two sides talk for ever")


def act(run: Run, peer: Peer, what: int, a: int, b: int) -> None:
    """One step of whoever stands between."""
    kind = what & 15
    if kind < 11 and not peer.records:
        said = bytes(run.below.out)
        run.below.out.clear()
        peer.step(said)
    if kind < 10:
        record = peer.records.popleft() if peer.records else b""
        if record:
            changed = tamper(kind, record, a, b)
            run.tampered |= b"".join(changed) != record
            for each in changed:
                run.feed(each)
    elif kind == 10:
        run.tampered = True
        run.feed(bytes((0x14 + a % 6, 3, 3, 0, b % 40)) + bytes(b % 40) if what & 16 else bytes((a, b)))
    elif kind == 11:
        peer.write(bytes((a,)) * (1 + b * (1 if what & 16 else 90)))
    elif kind == 12:
        if "made" in run.log and not run.ours:
            body = bytes((a,)) * (1 + b * 90)
            run.link.write(body)
            run.wrote += body
    elif kind == 13:
        ours(run, what >> 4)
    elif kind == 14:
        peer.goodbye()
    elif what & 16:
        run.cut = True
        run.end_below()
    else:
        run.greed = not run.greed
        run.always_greedy = False
    run.loop.turn()


def tamper(kind: int, record: bytes, a: int, b: int) -> list[bytes]:
    """What becomes of a record."""
    changed = bytearray(record)
    if kind == 3:
        place = (a << 8 | b) % len(record)
        changed[place] ^= 1 << a % 8
    elif kind == 4:
        return []
    elif kind == 5:
        return [record, record]
    elif kind == 6:
        changed[0] = 0x14 + a % 6
    elif kind == 7:
        changed[3:5] = ((int.from_bytes(record[3:5]) + a - 128) % 65_536).to_bytes(2)
    elif kind == 8:
        del changed[(a << 8 | b) % len(record) :]
    elif kind == 9:
        changed[1:3] = bytes((a, b))
    return [bytes(changed)]


def ours(run: Run, argument: int) -> None:
    """What the receiver above may ask for at any time."""
    link = run.link
    if argument < 4:
        link.pause_reading()
    elif argument < 8:
        link.resume_reading()
        run.loop.turn()
        run.offer()
    elif argument < 10:
        link.pause_writing()
    elif argument < 12:
        link.resume_writing()
    elif argument < 14:
        run.ours = True
        link.close()
    else:
        run.ours = True
        link.abort()


def seeds() -> list[bytes]:
    """Strangers, a real ClientHello, and sessions that are left alone, cut and changed."""
    peer = Peer("server")
    peer.step()
    hello = b"".join(peer.records)
    first = [
        hello,
        hello[:-1],
        hello + hello,
        hello[:100],
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01\xff\xff",
        b"\x16\x03\x01\x00\x00" * 70,
        b"\x15\x03\x03\0\x02\x02\x28",
    ]
    first += [
        b"\x16\x03\x01\0\x04\x01\0\0\0",
        b"\x16\x03\x01\0\x04\x01\xff\xff\xff",
        b"\x16\x03\x01\0\x01\x01" * 9,
        b"\x89HFST\r\n\x01",
        b"\x80\x2e\x01\0\x02",
    ]
    found = [bytes((side, step)) + each for side in (0, 1) for step in (0, 6) for each in first]
    quiet = [
        b"",
        b"\x0b\x41\x05\x00\0\0\x0c\x42\x07",
        b"\x0b\x41\xff\x0b\x42\xff\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\x0e\0\0\0\0\0",
        b"\xdd\0\0",
        b"\xfd\0\0",
        b"\x1f\0\0",
    ]
    quiet += [
        b"\x0d\0\0\x0b\x41\x09\0\0\0\x4d\0\0",
        b"\x0f\0\0\x0b\x41\x70\0\0\0",
        b"\x8d\0\0\xad\0\0\x0c\x41\x20",
        b"\x0b\x41\x05\x0e\0\0\0\0\0\0\0\0",
    ]
    found += [bytes((side | mode, 40)) + each for side in (0, 1) for mode in (2, 6) for each in quiet]
    changes = [bytes((kind, 1, 90)) for kind in range(3, 11)]
    found += [bytes((side | 2, 9)) + b"\0\0\0" * after + each for side in (0, 1) for after in (0, 1, 3) for each in changes]
    return found + [bytes((side | 6, 200)) + b"\x0b\x41\x30" * 2 + each + b"\0\0\0" for side in (0, 1) for each in changes]
