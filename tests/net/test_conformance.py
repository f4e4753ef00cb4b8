"""What every kind of link does alike: TCP over IPv4 and IPv6, Unix, memory; on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable

import pytest

from holdfast.errors import ConfigError, Unavailable
from holdfast.facts import ConnectionRefused
from holdfast.net.address import parse_address
from holdfast.net.link import ListenOptions
from tests.net.helpers import KINDS, Echo, Recorder, place, turns_until

pytestmark = [pytest.mark.both_loops, pytest.mark.parametrize("kind", KINDS)]

MIB = 1024 * 1024
HIGH_BYTES = 256 * 1024


async def test_what_is_written_comes_back(kind: str) -> None:
    async with place(kind) as here:
        here.make = Echo
        await here.listen()
        client, server = await here.pair()
        for n in range(100):
            client.link.write(b"%d," % n)
        expected = b"".join(b"%d," % n for n in range(100))
        await client.until(lambda: len(client.data) == len(expected))
        assert client.data == expected
        assert server.data == expected


async def test_both_ends_have_names_for_people(kind: str) -> None:
    async with place(kind) as here:
        await here.listen()
        client, server = await here.pair()
        assert client.link.peer == str(here.address)
        assert server.link.local == str(here.address)
        scheme = str(here.address).partition("://")[0]
        assert server.link.peer.startswith(f"{scheme}://")
        if kind != "unix":  # a Unix client has no name of its own
            assert server.link.peer == client.link.local


class Counting(Recorder):
    """Digests instead of keeping: for transfers too large to hold."""

    def __init__(self) -> None:
        super().__init__()
        self.digest = hashlib.blake2b()
        self.count = 0

    def bytes_received(self, data: memoryview | bytes) -> int:
        self.digest.update(data)
        self.count += len(data)
        self._note("bytes_received")
        return len(data)


class Sender(Recorder):
    """Writes `total` bytes, and stops whenever it is told to."""

    def __init__(self, total: int) -> None:
        super().__init__()
        self.left = total
        self.digest = hashlib.blake2b()
        self.most_buffered = 0
        self.allowed = True

    def go(self) -> None:
        while self.left and self.allowed:
            block = self.left.to_bytes(8) * 8192
            self.left -= len(block)
            self.digest.update(block)
            self.link.write(block)
            self.most_buffered = max(self.most_buffered, self.link.write_buffer_bytes())

    def pause_writing(self) -> None:
        self.allowed = False
        super().pause_writing()

    def resume_writing(self) -> None:
        self.allowed = True
        super().resume_writing()
        self.go()


class Blocks(Counting):
    """Uses whole blocks only, as a session uses frames."""

    block_bytes = 70_001

    def bytes_received(self, data: memoryview | bytes) -> int:
        return super().bytes_received(memoryview(data)[: len(data) // self.block_bytes * self.block_bytes])


@pytest.mark.both_loops
async def test_large_frames_and_small_ones_in_turn_arrive_whole(kind: str) -> None:
    expected = hashlib.blake2b()
    async with place(kind) as here:
        here.make = Blocks
        await here.listen()
        client, server = await here.pair()
        assert isinstance(server, Blocks)
        for turn, (block_bytes, count) in enumerate([(70_001, 60), (11, 1000), (70_001, 60), (1003, 1000), (70_001, 1), (11, 1)]):
            before = server.count
            server.block_bytes = block_bytes
            for number in range(count):
                block = (b"%d.%d " % (turn, number) * block_bytes)[:block_bytes]
                expected.update(block)
                client.link.write(block[: block_bytes // 3])
                client.link.write(block[block_bytes // 3 :])
            await server.until(lambda: server.count == before + block_bytes * count)  # noqa: B023 # it is over before the next turn
        assert server.digest.digest() == expected.digest()


async def test_a_large_transfer_arrives_whole_in_bounded_memory(kind: str) -> None:
    total = 32 * MIB
    async with place(kind) as here:
        here.make = Counting
        await here.listen()
        client, server = await here.pair(lambda: Sender(total))
        assert isinstance(client, Sender)
        assert isinstance(server, Counting)
        client.go()
        await server.until(lambda: server.count == total)
        assert server.digest.digest() == client.digest.digest()
        assert "pause_writing" in client.calls
        assert client.most_buffered <= HIGH_BYTES + 64 * 1024


class HalfCloser(Recorder):
    """Answers when the peer is done: what it writes at the end of the stream must still leave."""

    def eof_received(self) -> None:
        super().eof_received()
        self.link.write(b"goodbye")


async def test_the_end_of_a_stream_is_told_and_the_link_closes_itself(kind: str) -> None:
    async with place(kind) as here:
        here.make = HalfCloser
        await here.listen()
        client, server = await here.pair()
        client.link.write(b"last words")
        client.link.close()
        assert client.link.is_closing()
        await server.until(lambda: server.lost)
        await client.until(lambda: client.lost)
        assert server.data == b"last words"
        assert server.calls == ["link_made", "bytes_received", "eof_received", "link_lost"]
        assert client.calls == ["link_made", "link_lost"]
        assert client.error is None


async def test_close_sends_all_that_is_written(kind: str) -> None:
    async with place(kind) as here:
        await here.listen()
        client, server = await here.pair()
        client.link.write(b"x" * 3 * MIB)
        client.link.close()
        client.link.write(b"after the end")
        await server.until(lambda: server.lost)
        assert len(server.data) == 3 * MIB
        assert server.error is None
        await client.until(lambda: client.lost)
        assert client.error is None


async def test_abort_ends_both_and_drops_what_is_written(kind: str) -> None:
    async with place(kind) as here:
        await here.listen()
        client, server = await here.pair()
        server.link.pause_reading()
        client.link.write(b"x" * 8 * MIB)
        client.link.abort()
        assert client.link.is_closing()
        await client.until(lambda: client.lost)
        assert client.error is None
        assert client.link.write_buffer_bytes() == 0
        server.link.resume_reading()
        await server.until(lambda: server.lost)
        assert len(server.data) < 8 * MIB


async def test_after_the_end_every_method_is_harmless(kind: str) -> None:
    async with place(kind) as here:
        await here.listen()
        client, server = await here.pair()
        client.link.abort()
        await client.until(lambda: client.lost)
        await server.until(lambda: server.lost)
        for link in (client.link, server.link):
            link.write(b"nobody reads this")
            link.pause_reading()
            link.resume_reading()
            link.close()
            link.abort()
            assert link.is_closing()
            assert link.write_buffer_bytes() == 0
        for _ in range(5):
            await asyncio.sleep(0)
        assert client.calls.count("link_lost") == server.calls.count("link_lost") == 1


async def test_a_peer_that_vanishes_is_noticed(kind: str) -> None:
    async with place(kind) as here:
        await here.listen()
        client, server = await here.pair()
        server.link.abort()
        await client.until(lambda: client.lost)
        if kind in ("tcp4", "tcp6", "memory"):  # a Unix socket has no reset while nothing lies unread in it
            assert isinstance(client.error, ConnectionResetError)
        client.link.write(b"too late")
        assert client.link.is_closing()


async def test_while_reading_is_paused_nothing_comes(kind: str) -> None:
    async with place(kind) as here:
        here.make = Echo
        await here.listen()
        client, server = await here.pair()
        client.link.pause_reading()
        client.link.pause_reading()
        client.link.write(b"hello")
        await server.until(lambda: server.data == b"hello")
        other, _ = await here.pair()  # a whole round trip on another link: this one had its chance to read
        other.link.write(b"x")
        await other.until(lambda: other.data == b"x")
        assert client.data == b""
        client.link.resume_reading()
        client.link.resume_reading()
        await client.until(lambda: client.data == b"hello")


async def test_reading_can_be_paused_from_link_made(kind: str) -> None:
    class Shy(Recorder):
        def link_made(self, link: object) -> None:
            super().link_made(link)  # type: ignore[arg-type]
            self.link.pause_reading()

    async with place(kind) as here:
        here.make = Shy
        await here.listen()
        client, server = await here.pair()
        client.link.write(b"early")
        here.make = Echo
        other, _ = await here.pair()
        other.link.write(b"x")
        await other.until(lambda: other.data == b"x")
        assert server.data == b""
        server.link.resume_reading()
        await server.until(lambda: server.data == b"early")


async def test_a_reader_that_pauses_holds_the_writer_back(kind: str) -> None:
    async with place(kind) as here:
        await here.listen()
        client, server = await here.pair(lambda: Sender(64 * MIB))
        assert isinstance(client, Sender)
        server.link.pause_reading()
        client.go()
        assert not client.allowed
        assert client.left > 32 * MIB
        assert client.most_buffered <= HIGH_BYTES + 64 * 1024


async def test_a_reader_that_pauses_in_link_made_holds_the_writer_back(kind: str) -> None:
    class Shy(Recorder):
        def link_made(self, link: object) -> None:
            super().link_made(link)  # type: ignore[arg-type]
            self.link.pause_reading()

    async with place(kind) as here:
        here.make = Shy
        await here.listen()
        client, server = await here.pair(lambda: Sender(64 * MIB))
        assert isinstance(client, Sender)
        client.go()
        here.make = Echo
        other, _ = await here.pair()
        for _ in range(20):  # turns in which a link that went on reading would take megabytes
            other.link.write(b"x")
            before = len(other.data)
            await other.until(lambda before=before: len(other.data) > before)  # type: ignore[misc]
        assert not client.allowed
        assert client.left > 32 * MIB
        assert not server.lost


async def test_the_marks_of_writing_can_be_moved(kind: str) -> None:
    async with place(kind) as here:
        await here.listen()
        client, server = await here.pair()
        server.link.pause_reading()
        client.link.set_write_limits(0, 0)
        sent = 0
        while "pause_writing" not in client.calls:
            client.link.write(bytes(64 * 1024))
            sent += 64 * 1024
            if client.link.write_buffer_bytes():  # uvloop writes, and looks at its marks, at the end of the turn
                await turns_until(lambda: "pause_writing" in client.calls or not client.link.write_buffer_bytes())
        server.link.resume_reading()
        await client.until(lambda: "resume_writing" in client.calls)
        assert client.link.write_buffer_bytes() == 0
        await server.until(lambda: len(server.data) == sent)


async def test_a_receiver_may_go_on_writing_behind_the_end(kind: str) -> None:
    if kind in ("memory", "tls"):  # no half of them can end alone
        return

    class Patient(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    async with place(kind) as here:
        here.make = Patient
        await here.listen()
        client, server = await here.pair()
        client.link.close()  # says that no more comes, and waits for our end
        await server.until(lambda: "eof_received" in server.calls)
        server.link.write(b"more")
        assert not server.link.is_closing()
        server.link.close()
        await server.until(lambda: server.lost)
        assert server.error is None
        await client.until(lambda: client.lost)


class Frames(Recorder):
    """Uses whole frames only: one byte of length, then that many bytes."""

    def __init__(self, at_most: int = 1000) -> None:
        super().__init__()
        self.frames: list[bytes] = []
        self.at_most = at_most

    def bytes_received(self, data: memoryview | bytes) -> int:
        used = 0
        for _ in range(self.at_most):
            if used >= len(data) or used + 1 + data[used] > len(data):
                break
            size = data[used]
            self.frames.append(bytes(data[used + 1 : used + 1 + size]))
            used += 1 + size
        self._note("bytes_received")
        return used


def frames(count: int) -> list[bytes]:
    return [bytes([n % 251]) * (n * 7 % 256) for n in range(count)]


def packed(many: list[bytes]) -> bytes:
    return b"".join(bytes([len(frame)]) + frame for frame in many)


async def test_what_a_receiver_leaves_comes_again_in_front_of_the_next(kind: str) -> None:
    wanted = frames(5000)
    stream = packed(wanted)
    async with place(kind) as here:
        here.make = Frames
        await here.listen()
        client, server = await here.pair()
        assert isinstance(server, Frames)
        for start in range(0, len(stream), 977):  # a prime: the cuts fall everywhere in a frame
            client.link.write(stream[start : start + 977])
            if start % 5 == 0:
                await asyncio.sleep(0)
        await server.until(lambda: len(server.frames) == len(wanted))
        assert server.frames == wanted


async def test_two_links_that_leave_bytes_do_not_mix_them(kind: str) -> None:
    wanted = frames(200)
    stream = packed(wanted)
    async with place(kind) as here:
        here.make = Frames
        await here.listen()
        pairs = [await here.pair() for _ in range(4)]
        for start in range(0, len(stream), 31):
            for client, _ in pairs:
                client.link.write(stream[start : start + 31])
            await asyncio.sleep(0)
        for _, server in pairs:
            assert isinstance(server, Frames)
            await server.until(lambda server=server: len(server.frames) == len(wanted))  # type: ignore[misc]
            assert server.frames == wanted


async def test_what_was_left_while_pausing_is_offered_when_reading_resumes(kind: str) -> None:
    class OneAtATime(Frames):
        def bytes_received(self, data: memoryview | bytes) -> int:
            self.link.pause_reading()
            return super().bytes_received(data)

    wanted = [b"one", b"two", b"three"]
    async with place(kind) as here:
        here.make = lambda: OneAtATime(at_most=1)
        await here.listen()
        client, server = await here.pair()
        assert isinstance(server, OneAtATime)
        client.link.write(packed(wanted))
        for n in range(1, 4):
            await server.until(lambda n=n: len(server.frames) == n)  # type: ignore[misc]
            assert server.frames == wanted[:n]
            server.link.resume_reading()


@pytest.mark.parametrize("returned", [-1, 6])
async def test_a_receiver_that_counts_wrong_is_told_so(kind: str, returned: int) -> None:
    class Wrong(Recorder):
        def bytes_received(self, data: memoryview | bytes) -> int:
            return returned

    async with place(kind) as here:
        here.make = Wrong
        await here.listen()
        client, server = await here.pair()
        client.link.write(b"hello")
        await server.until(lambda: server.lost)
        assert f"bytes_received returned {returned}" in str(server.error)
        await client.until(lambda: client.lost)


def _flood(client: Recorder, server: Recorder) -> None:
    client.link.pause_reading()
    server.link.write(b"x" * 8 * MIB)


RAISING: dict[str, Callable[[Recorder, Recorder], None]] = {
    "bytes_received": lambda client, _: client.link.write(b"x"),
    "eof_received": lambda client, _: client.link.close(),
    "pause_writing": _flood,
}


@pytest.mark.parametrize("method", RAISING)
async def test_a_receiver_that_raises_ends_its_own_link_and_no_other(kind: str, method: str) -> None:
    def fail(*_: object) -> int:
        raise RuntimeError(f"{method} failed")

    class Failing(Recorder):
        pass

    setattr(Failing, method, fail)
    async with place(kind) as here:
        here.make = Echo
        await here.listen()
        bystander, _ = await here.pair()
        here.make = Failing
        client, server = await here.pair()
        RAISING[method](client, server)
        await server.until(lambda: server.lost)
        assert str(server.error) == f"{method} failed"
        assert isinstance(server.error, RuntimeError)
        client.link.resume_reading()
        await client.until(lambda: client.lost)
        bystander.link.write(b"still here")
        await bystander.until(lambda: bystander.data == b"still here")


async def test_a_receiver_that_cannot_be_made_ends_its_link_and_is_reported(kind: str) -> None:
    def fail() -> Recorder:
        raise RuntimeError("no receiver today")

    async with place(kind) as here:
        await here.listen()
        here.make = fail
        client = await here.connect()
        await client.until(lambda: client.lost)
        await turns_until(lambda: here.facts)
        (fact,) = here.facts
        assert isinstance(fact, ConnectionRefused)
        assert "no receiver today" in fact.reason
        with pytest.raises(RuntimeError, match="no receiver today"):
            await here.connect(fail)


async def test_a_peer_that_stops_reading_is_cut_after_the_stall_deadline(kind: str) -> None:
    async with place(kind, send_stall_s=0.05) as here:
        await here.listen()
        client, server = await here.pair(lambda: Sender(64 * MIB))
        assert isinstance(client, Sender)
        server.link.pause_reading()
        client.go()
        await client.until(lambda: client.lost)
        assert isinstance(client.error, ConnectionAbortedError)
        assert "stopped reading" in str(client.error)
        server.link.resume_reading()
        await server.until(lambda: server.lost)


async def test_close_to_a_peer_that_does_not_read_is_bounded(kind: str) -> None:
    async with place(kind, send_stall_s=0.05) as here:
        await here.listen()
        client, server = await here.pair()
        server.link.pause_reading()
        client.link.write(b"x" * 32 * MIB)
        client.link.close()
        await client.until(lambda: client.lost)
        assert isinstance(client.error, ConnectionAbortedError)


async def test_nobody_listening_is_unavailable_and_names_the_address(kind: str) -> None:
    async with place(kind) as here:
        listening = await here.listen()
        listening.close()
        with pytest.raises(Unavailable) as caught:
            await here.connect()
        assert str(caught.value).startswith(f"cannot connect to {here.address}: ")
        assert "Errno" not in str(caught.value)
        assert caught.value.executed == "no"


async def test_closing_a_listener_leaves_its_links_alone(kind: str) -> None:
    async with place(kind) as here:
        here.make = Echo
        listening = await here.listen()
        client, _ = await here.pair()
        listening.close()
        listening.close()
        client.link.write(b"still")
        await client.until(lambda: client.data == b"still")


async def test_an_address_in_use_is_refused_and_free_after_close(kind: str) -> None:
    async with place(kind) as here:
        listening = await here.listen()
        here.wanted = listening.address
        with pytest.raises(ConfigError, match=r"in use|listens there") as caught:
            await here.listen()
        assert str(listening.address) in str(caught.value)
        listening.close()
        again = await here.listen()
        assert again.address == listening.address


async def test_many_connections_at_once_are_all_taken(kind: str) -> None:
    async with place(kind) as here:
        here.make = Echo
        await here.listen(ListenOptions(accepts_per_turn=3))
        clients = await asyncio.gather(*(here.connect() for _ in range(50)))
        for n, client in enumerate(clients):
            client.link.write(b"%d" % n)
        for n, client in enumerate(clients):
            await client.until(lambda client=client, n=n: client.data == b"%d" % n)  # type: ignore[misc]


async def test_a_scheme_that_is_not_for_this_network_is_refused(kind: str) -> None:
    async with place(kind) as here:
        text = "tls://127.0.0.1:1" if kind == "memory" else "memory://x"
        here.wanted = parse_address(text)
        for attempt in (here.listen, lambda: here.network.connect(parse_address(text), Recorder, timeout_s=1)):
            with pytest.raises(ConfigError, match=text):
                await attempt()
