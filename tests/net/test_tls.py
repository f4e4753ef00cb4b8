"""The TLS link between a link below that does what the test says and Python's own TLS at the other end: records, ends, alerts, memory."""

from __future__ import annotations

import gc
import ssl
import sys
import weakref

import pytest

from holdfast.net.hello import PLAIN_TEXT_ANSWER
from holdfast.net.records import DATA_PER_IDLE, IDLE_MAX, PIECE_BYTES, RECORD_MAX_BYTES, fatal_alert
from tests.net.helpers import Echo, Recorder, turns_until
from tests.net.papers import HOLDFAST, SPIFFE, papers
from tests.net.tlsbench import Bench

ILLEGAL_PARAMETER, UNRECOGNIZED_NAME, NO_APPLICATION_PROTOCOL = 47, 112, 120
SIDES = ("server", "client")


@pytest.mark.parametrize("ours", SIDES)
def test_the_receiver_is_made_when_the_handshake_is_complete_and_not_before(ours: str) -> None:
    bench = Bench(ours=ours)
    assert bench.receiver.calls == []
    bench.shake()
    assert bench.receiver.calls == ["link_made"]
    assert bench.asked.told[-1] == "opened"
    assert bench.receiver.link is bench.link
    assert (bench.link.local, bench.link.peer) == ("tls://127.0.0.1:1", "tls://127.0.0.1:2")
    assert len(bench.wheel) == 0, "the handshake's deadline is over with the handshake"
    bench.loop.advance(1000.0)
    assert bench.below.calls == []


@pytest.mark.parametrize("ours", SIDES)
def test_bytes_go_both_ways(ours: str) -> None:
    bench = Bench(Echo(), ours=ours).shake()
    bench.send(b"hello")
    assert bench.receiver.data == b"hello"
    assert bench.read() == b"hello"


@pytest.mark.parametrize("ours", SIDES)
def test_a_session_cut_into_single_bytes_is_the_same_session(ours: str) -> None:
    def bytewise(data: bytes) -> None:
        for n in range(len(data)):
            bench.deliver(data[n : n + 1])

    bench = Bench(Echo(), ours=ours)
    bench.shake(deliver=bytewise)
    assert bench.receiver.calls == ["link_made"]
    for _ in range(3):
        bench.sslobj.write(b"some words")
    bytewise(bench.theirs())
    assert bench.receiver.data == b"some words" * 3
    assert bench.read() == b"some words" * 3


def test_all_records_of_one_read_are_offered_as_one_piece() -> None:
    class Offered(Recorder):
        sizes: tuple[int, ...] = ()

        def bytes_received(self, data: memoryview | bytes) -> int:
            self.sizes += (len(data),)
            return super().bytes_received(data)

    receiver = Offered()
    bench = Bench(receiver).shake()
    for _ in range(40):
        bench.sslobj.write(b"x" * 1000)
    bench.deliver(bench.theirs())
    assert receiver.sizes == (40_000,)


def test_a_record_is_decrypted_only_when_it_is_whole() -> None:
    bench = Bench().shake()
    bench.sslobj.write(b"abc")
    record = bench.theirs()
    bench.deliver(record[:-1])
    assert bench.rest == record[:-1], "the link below keeps it"
    bench.deliver(record[-1:])
    assert bench.receiver.data == b"abc"
    assert bench.rest == b""


def test_a_large_write_is_one_write_below_in_records_of_full_size() -> None:
    bench = Bench().shake()
    bench.below.writes.clear()
    bench.link.write(b"y" * 1_000_000)
    assert len(bench.below.writes) == 1
    assert bench.read() == b"y" * 1_000_000


def test_many_megabytes_one_way_leave_no_megabytes_behind() -> None:
    bench = Bench().shake()
    block = b"z" * (1 << 20)
    for _ in range(15):
        bench.sslobj.write(block)
        bench.deliver(bench.theirs())
        bench.link.write(block)
        bench.taken()
    assert len(bench.receiver.data) == 15 << 20
    link = bench.link
    assert link._incoming is not None
    assert link._outgoing is not None
    assert (link._incoming.pending, link._outgoing.pending) == (0, 0)
    # A memory BIO keeps the most it ever held. What it held at most is what stood in it after one write: a record, not a megabyte.
    peaks: list[int] = []

    class Watching:
        def __init__(self, bio: ssl.MemoryBIO) -> None:
            self.bio = bio

        def write(self, data: memoryview) -> int:
            peaks.append(self.bio.pending + len(data))
            return self.bio.write(data)

        def read(self) -> bytes:
            peaks.append(self.bio.pending)
            return self.bio.read()

        @property
        def pending(self) -> int:
            return self.bio.pending

    link._incoming, link._outgoing = Watching(link._incoming), Watching(link._outgoing)  # type: ignore[assignment]
    bench.sslobj.write(block)
    bench.deliver(bench.theirs())
    link.write(block)
    assert len(peaks) > 100
    assert max(peaks) <= PIECE_BYTES + 1024


def _with_tickets(count: int) -> Bench:
    context = papers().plain_server(*HOLDFAST)
    context.num_tickets = count  # each is a record that brings no data, as a change of keys is; Python cannot ask for those
    return Bench(ours="client", theirs=context).shake()


def test_a_peer_that_sends_records_without_data_for_ever_is_cut() -> None:
    bench = _with_tickets(IDLE_MAX + 1)
    assert bench.below.calls == ["close"]
    bench.lose()
    assert "again and again, and no data" in str(bench.receiver.error)


def test_records_without_data_are_paid_for_by_those_with_data() -> None:
    bench = _with_tickets(IDLE_MAX)
    assert bench.link._idle == IDLE_MAX * DATA_PER_IDLE
    for _ in range(DATA_PER_IDLE):
        bench.send(b"x")
    assert bench.link._idle == (IDLE_MAX - 1) * DATA_PER_IDLE
    assert bench.below.calls == []


def test_small_records_with_data_are_not_counted_as_idle() -> None:
    bench = Bench().shake()
    for _ in range(5000):
        bench.sslobj.write(b"x")
    bench.deliver(bench.theirs())
    assert (len(bench.receiver.data), bench.link._idle) == (5000, 0)


# ------------------------------------------------------------------------------------------------------------------------- ends


@pytest.mark.parametrize("ours", SIDES)
def test_their_close_notify_is_an_orderly_end_and_is_answered(ours: str) -> None:
    class Last(Recorder):
        def eof_received(self) -> None:
            super().eof_received()
            self.link.write(b"goodbye")

    bench = Bench(Last(), ours=ours).shake()
    bench.read()  # tickets
    bench.sslobj.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        bench.sslobj.unwrap()
    bench.deliver(bench.theirs())
    assert bench.receiver.data == b"last words"
    assert bench.below.calls == ["close"]
    bench.incoming.write(bench.taken())
    with pytest.raises(ssl.SSLError, match="APPLICATION_DATA_AFTER_CLOSE_NOTIFY"):
        bench.sslobj.unwrap()  # goodbye came before our close_notify, as it should
    bench.lose()
    assert bench.receiver.calls == ["link_made", "bytes_received", "eof_received", "link_lost"]
    assert bench.receiver.error is None


@pytest.mark.parametrize("ours", SIDES)
def test_close_sends_what_is_written_then_close_notify_then_closes_below(ours: str) -> None:
    bench = Bench(ours=ours).shake()
    bench.link.write(b"x" * 100_000)
    bench.link.close()
    bench.link.write(b"after the end")
    assert bench.below.calls == ["close"]
    assert bench.read() == b"x" * 100_000
    assert bench.sslobj.read(10) == b"", "close_notify came"
    bench.sslobj.unwrap()
    bench.deliver(bench.theirs())
    bench.lose()
    assert bench.receiver.calls == ["link_made", "link_lost"]
    assert bench.receiver.error is None


@pytest.mark.parametrize("ours", SIDES)
def test_a_session_cut_at_any_byte_is_told_as_lost(ours: str) -> None:
    """Every offset of the ciphertext of a whole session; only the very last byte makes it whole."""
    session = Bench(ours=ours).shake()
    session.taken()
    for n in range(3):
        session.sslobj.write(b"item %d" % n)
    with pytest.raises(ssl.SSLWantReadError):
        session.sslobj.unwrap()
    whole = len(session.theirs())

    for cut in range(whole + 1):
        bench = _opened(ours)
        for n in range(3):
            bench.sslobj.write(b"item %d" % n)
        with pytest.raises(ssl.SSLWantReadError):
            bench.sslobj.unwrap()
        data = bench.theirs()
        assert len(data) == whole
        bench.deliver(data[:cut])
        bench.end()
        assert bench.receiver.calls[-1] == "link_lost"
        assert bench.receiver.calls.count("link_lost") == 1
        if cut < whole:
            assert "eof_received" not in bench.receiver.calls, f"cut at {cut} was taken for an orderly end"
            assert isinstance(bench.receiver.error, ConnectionAbortedError)
            assert "without TLS's close_notify" in str(bench.receiver.error)
        else:
            assert "eof_received" in bench.receiver.calls
            assert bench.receiver.error is None


def _opened(ours: str) -> Bench:
    bench = Bench(ours=ours).shake()
    bench.taken()
    return bench


@pytest.mark.parametrize("ours", SIDES)
def test_a_handshake_cut_at_any_byte_is_refused_once_and_makes_no_receiver(ours: str) -> None:
    sizes: list[int] = []
    Bench(ours=ours).shake(deliver=lambda data: sizes.append(len(data)))
    for cut in (*range(0, sizes[0], 7), sizes[0] - 1):
        bench = Bench(ours=ours)
        bench.shake(deliver=lambda data, cut=cut, bench=bench: bench.deliver(data[: min(cut, len(data) - 1)]))  # type: ignore[misc]
        bench.end()
        assert bench.receiver.calls == []
        assert bench.asked.told[-1] == "refused: the connection was closed during the TLS handshake"
        assert sum(told.startswith("refused") for told in bench.asked.told) == 1


def test_a_reset_is_told_as_it_came() -> None:
    bench = _opened("server")
    bench.lose(ConnectionResetError("reset"))
    assert isinstance(bench.receiver.error, ConnectionResetError)


def test_a_link_below_that_is_lost_without_a_word_is_a_cut() -> None:
    bench = _opened("server")
    bench.lose(None)
    assert isinstance(bench.receiver.error, ConnectionAbortedError)


def test_abort_says_nothing_more() -> None:
    bench = _opened("server")
    bench.link.abort()
    assert bench.below.calls == ["abort"]
    assert bench.below.out == b""
    bench.lose()
    assert bench.receiver.calls == ["link_made", "link_lost"]
    assert bench.receiver.error is None


def test_in_any_state_no_method_raises() -> None:
    for state in range(5):
        bench = Bench()
        if state >= 1:
            bench.shake()
        if state == 2:
            bench.link.close()
        if state == 3:
            bench.link.abort()
        if state == 4:
            bench.end()
        for _ in range(2):
            bench.link.write(b"x")
            bench.link.set_write_limits(2, 1)
            bench.link.pause_reading()
            if state > 1:
                bench.link.resume_reading()
            bench.link.write_buffer_bytes()
            bench.link.close()
            bench.link.abort()
            assert bench.link.is_closing()
        bench.deliver(b"\x17\x03\x03\x00\x01x")
        bench.link.pause_writing()
        bench.link.resume_writing()
        bench.link.eof_received()


def test_a_link_that_was_ended_before_it_was_made_cuts_the_one_below() -> None:
    bench = Bench()
    bench.link.abort()
    bench.below.calls.clear()
    bench.link.link_made(bench.below)
    assert bench.below.calls == ["abort"]


def test_after_the_end_nothing_is_kept_alive() -> None:
    bench = _opened("server")
    sslobj = weakref.ref(bench.link._sslobj)  # type: ignore[arg-type]
    gc.collect()
    gc.disable()
    try:
        bench.end()
        assert sslobj() is None, "OpenSSL's memory is free at once, without a collector"
        others = (bench.receiver, bench.below, bench.asked)
        assert not any(each in others for each in gc.get_referents(bench.link)), "a dead link holds nobody"
    finally:
        gc.enable()


# ------------------------------------------------------------------------------------------------------------------- half-open


def test_a_stranger_costs_no_openssl_until_its_hello_is_complete() -> None:
    bench = Bench()
    with pytest.raises(ssl.SSLWantReadError):
        bench.sslobj.do_handshake()
    hello = bench.theirs()
    bench.deliver(hello[:-1])
    assert bench.asked.told == ["began"]
    assert bench.link._sslobj is None
    bench.deliver(hello[-1:])
    assert bench.asked.told == ["began", "begin"]


def test_a_half_open_link_is_small() -> None:
    bench = Bench()
    with pytest.raises(ssl.SSLWantReadError):
        bench.sslobj.do_handshake()
    bench.deliver(bench.theirs()[:-1])
    link = bench.link
    assert not hasattr(link, "__dict__")
    assert (link._sslobj, link._incoming, link._outgoing, link._receiver) == (None, None, None, None)
    assert sum(map(sys.getsizeof, (link, link.local, link.peer, link._timer))) < 700


def test_a_handshake_that_takes_too_long_is_cut() -> None:
    for ours in SIDES:
        bench = Bench(ours=ours)
        bench.loop.advance(104.9)
        assert bench.below.calls == []
        bench.loop.advance(105.1)
        assert bench.asked.told[-1] == "refused: no TLS handshake within 5 s"
        assert bench.below.calls[-1] == "abort"


def test_plain_text_gets_one_line_and_a_close() -> None:
    for first in (b"GET / HTTP/1.1\r\n\r\n", b"\x00", b"\x89HFST\r\n\x01", b"\x16\x01\x01\x00\x05"):
        bench = Bench()
        bench.deliver(first)
        assert bench.taken() == PLAIN_TEXT_ANSWER
        assert bench.below.calls == ["close"]
        assert "sent plain text to a port that wants TLS" in bench.asked.told[-1]


def test_a_hello_that_is_too_large_gets_its_alert_before_it_has_come() -> None:
    bench = Bench()
    bench.deliver(b"\x16\x03\x01\x40\x00\x01" + (16384).to_bytes(3))
    assert bench.below.out == fatal_alert(ILLEGAL_PARAMETER)
    assert bench.below.calls == ["close"]
    assert "larger than the 16384 bytes" in bench.asked.told[-1]


def test_a_name_that_is_not_ascii_is_refused_before_openssl_is_asked() -> None:
    """Python would write a traceback to stderr for each of them, where a server has several certificates."""
    bench = Bench(by_name={"b.example": (papers().server, "")})
    with pytest.raises(ssl.SSLWantReadError):
        bench.sslobj.do_handshake()
    bench.deliver(bench.theirs().replace(b"localhost", b"local\xffost"))
    assert bench.below.out == fatal_alert(UNRECOGNIZED_NAME)
    assert "not ASCII" in bench.asked.told[-1]


def test_another_protocol_is_refused_with_its_alert_before_openssl_is_asked() -> None:
    bench = Bench(theirs=papers().plain_client("h2", "http/1.1")).shake_quietly()
    assert bench.alerts == [NO_APPLICATION_PROTOCOL]
    assert bench.asked.told[-1] == "refused: it speaks 'h2, http/1.1' over TLS; this port speaks holdfast/1"
    assert "begin" not in bench.asked.told


def test_no_protocol_at_all_is_refused_too_unless_none_is_asked_for() -> None:
    bench = Bench(theirs=papers().plain_client()).shake_quietly()
    assert bench.alerts == [NO_APPLICATION_PROTOCOL]
    assert "named no protocol" in bench.asked.told[-1]
    assert Bench(protocols=(), theirs=papers().plain_client()).shake().receiver.calls == ["link_made"]
    assert Bench(protocols=(), theirs=papers().plain_client("h2")).shake().receiver.calls == ["link_made"]


def test_a_server_that_agrees_to_no_protocol_is_refused_by_the_client() -> None:
    bench = Bench(ours="client", theirs=papers().plain_server()).shake_quietly()
    assert bench.receiver.calls == []
    assert "agreed to no protocol of ours (holdfast/1, by ALPN)" in bench.asked.told[-1]
    assert bench.below.calls == ["close"]


# ---------------------------------------------------------------------------------------------------------------------- alerts


def test_an_alert_leaves_before_the_close_when_openssl_gives_up_during_the_handshake() -> None:
    bench = Bench()
    with pytest.raises(ssl.SSLWantReadError):
        bench.sslobj.do_handshake()
    hello = bytearray(bench.theirs())
    hello[5 + 4 + 2 + 32] = 200  # a session id longer than there may be
    bench.deliver(bytes(hello))
    assert bench.alert() is not None
    assert bench.below.calls == ["close"]


@pytest.mark.parametrize("ours", SIDES)
def test_a_damaged_record_ends_the_session_with_an_alert_the_peer_can_read(ours: str) -> None:
    bench = _opened(ours)
    bench.sslobj.write(b"good")
    good = bench.theirs()
    bench.sslobj.write(b"bad")
    bad = bytearray(bench.theirs())
    bad[-1] ^= 1
    bench.deliver(good + bytes(bad))
    assert bench.receiver.data == b"good", "what came before is whole"
    assert bench.below.calls == ["close"]
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        bench.read()
    bench.lose()
    assert isinstance(bench.receiver.error, ConnectionAbortedError)
    assert "damaged" in str(bench.receiver.error)
    assert "eof_received" not in bench.receiver.calls


def test_a_record_that_is_too_long_is_refused_on_its_header() -> None:
    bench = _opened("server")
    bench.deliver(b"\x17\x03\x03" + (RECORD_MAX_BYTES + 1).to_bytes(2) + b"x")
    assert bench.below.calls == ["close"]
    with pytest.raises(ssl.SSLError, match="RECORD_OVERFLOW"):
        bench.read()


def test_plain_text_in_the_middle_of_a_session_is_a_loss() -> None:
    bench = _opened("server")
    bench.deliver(b"HTTP/1.1 200 OK\r\n")
    bench.lose()
    assert isinstance(bench.receiver.error, ConnectionAbortedError)


def test_a_server_that_answers_in_plain_text_is_told_so() -> None:
    for words in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"220 smtp.example.com ready\r\n", b"holdfast: this port speaks"):
        bench = Bench(ours="client")
        bench.deliver(words)
        assert bench.asked.told[-1] == "refused: it does not speak TLS; connect with tcp://, or use tls:// on its side"


def test_an_alert_of_the_peer_is_told_in_words() -> None:
    bench = Bench(theirs=ssl.create_default_context())
    bench.sslobj.context.set_alpn_protocols(["holdfast/1"])
    bench = Bench(theirs=bench.sslobj.context).shake_quietly()
    assert "does not trust the authority that issued our certificate" in bench.asked.told[-1]


# ---------------------------------------------------------------------------------------------------------------- flow control


class OneAtATime(Recorder):
    """Takes three bytes, then wants no more."""

    def bytes_received(self, data: memoryview | bytes) -> int:
        self.data += data[:3]
        self._note("bytes_received")
        self.link.pause_reading()
        return min(3, len(data))


async def test_what_was_decrypted_waits_while_reading_is_paused() -> None:
    bench = Bench(OneAtATime()).shake()
    for word in (b"one", b"two"):
        bench.sslobj.write(word)
    records = bench.theirs()
    bench.deliver(records)
    assert bench.receiver.data == b"one"
    assert bench.below.calls == ["pause_reading"]
    bench.sslobj.write(b"six")
    held = bench.theirs()
    bench.link.resume_reading()
    await turns_until(lambda: bench.receiver.data == b"onetwo")
    assert bench.below.calls == ["pause_reading"] * 2, "it paused again before the link below was asked to read on"
    bench.link.resume_reading()
    await turns_until(lambda: bench.below.calls == ["pause_reading", "pause_reading", "resume_reading"])
    bench.deliver(held)
    assert bench.receiver.data == b"onetwosix"


async def test_their_end_waits_for_a_receiver_that_has_paused() -> None:
    """What it has not taken yet comes before the end, as it does on a link without TLS."""
    bench = Bench(OneAtATime()).shake()
    for word in (b"one", b"two"):
        bench.sslobj.write(word)
    with pytest.raises(ssl.SSLWantReadError):
        bench.sslobj.unwrap()
    bench.deliver(bench.theirs())
    assert bench.receiver.calls == ["link_made", "bytes_received"]
    bench.link.resume_reading()
    await turns_until(lambda: bench.receiver.data == b"onetwo")
    assert "eof_received" not in bench.receiver.calls, "it paused again"
    bench.link.resume_reading()
    assert "eof_received" not in bench.receiver.calls, "never from inside a method of the link"
    await turns_until(lambda: "eof_received" in bench.receiver.calls)
    assert bench.below.calls[-1] == "close"
    bench.lose()
    assert bench.receiver.error is None


async def test_a_receiver_that_raises_at_an_end_that_waited_ends_its_link() -> None:
    class Failing(OneAtATime):
        def eof_received(self) -> None:
            raise RuntimeError("not today")

    bench = Bench(Failing()).shake()
    bench.sslobj.write(b"one")
    with pytest.raises(ssl.SSLWantReadError):
        bench.sslobj.unwrap()
    bench.deliver(bench.theirs())
    bench.link.resume_reading()
    await turns_until(lambda: "abort" in bench.below.calls)
    bench.lose()
    assert str(bench.receiver.error) == "not today"


def test_records_behind_a_pause_stay_encrypted_below() -> None:
    class Shy(Recorder):
        def bytes_received(self, data: memoryview | bytes) -> int:
            self.link.pause_reading()
            return super().bytes_received(data)

    bench = Bench(Shy()).shake()
    for _ in range(60):
        bench.sslobj.write(b"x" * 16000)
    data = bench.theirs()
    bench.deliver(data)
    assert 128 * 1024 < len(bench.receiver.data) <= 256 * 1024
    assert len(bench.rest) > 500_000, "a scratch full was decrypted, the rest is the business of the link below"


def test_pausing_writing_passes_through() -> None:
    bench = Bench().shake()
    bench.link.pause_writing()
    bench.link.resume_writing()
    bench.link.set_write_limits(7, 3)
    assert bench.receiver.calls == ["link_made", "pause_writing", "resume_writing"]
    assert bench.below.limits == (7, 3)
    bench.link.write(b"x" * 100)
    assert bench.link.write_buffer_bytes() == len(bench.below.out) > 100


def test_a_pause_that_began_during_the_handshake_is_told_when_it_is_over() -> None:
    bench = Bench()
    bench.link.pause_writing()
    bench.shake()
    assert bench.receiver.calls == ["link_made", "pause_writing"]


def test_a_receiver_that_raises_ends_its_link() -> None:
    class Failing(Recorder):
        def bytes_received(self, data: memoryview | bytes) -> int:
            raise RuntimeError("not today")

    bench = Bench(Failing()).shake()
    bench.send(b"x")
    assert bench.below.calls == ["abort"]
    bench.lose()
    assert str(bench.receiver.error) == "not today"


@pytest.mark.parametrize("where", ["make", "link_made"])
def test_a_receiver_that_cannot_begin_refuses_the_link(where: str) -> None:
    class Failing(Recorder):
        def link_made(self, link: object) -> None:
            raise RuntimeError("not today")

    bench = Bench(Failing())
    if where == "make":
        bench.asked.make_receiver = lambda: (_ for _ in ()).throw(RuntimeError("not today"))
    bench.shake_quietly()
    assert bench.below.calls[-1] == "abort"
    assert bench.asked.told[-1] == "refused: not today"
    bench.lose()
    assert bench.receiver.calls == (["link_lost"] if where == "link_made" else [])


# ------------------------------------------------------------------------------------------------------------------- identity


def test_what_a_client_proved_stands_on_the_link() -> None:
    theirs = papers().plain_client("holdfast/1")
    theirs.load_cert_chain(papers().client)
    bench = Bench(theirs=theirs, clients="required", client_trust=papers().ca).shake()
    assert bench.link.certificate is not None
    assert bench.link.certificate.names == (f"URI:{SPIFFE}",)
    assert Bench().shake().link.certificate is None


def test_the_peers_first_bytes_are_told_once_for_its_ticket() -> None:
    bench = Bench(ours="client").shake()
    assert "heard" not in bench.asked.told
    bench.send(b"a")
    bench.send(b"b")
    assert bench.asked.told.count("heard") == 1
