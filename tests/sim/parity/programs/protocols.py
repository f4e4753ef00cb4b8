"""Programs on Protocol and BufferedProtocol: which callback comes when, with what, and what its return value does."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.sim.parity.stage import Half, Recorder, Stage, dial, errors_of_the_loop, kind, listening, narrow, one_after_another, pair

MEGABYTE = b"0123456789abcdef" * 65536


@pair("protocols")
def a_life_in_callbacks() -> tuple[Half, Half]:
    """Made, data, end, lost: each once, on both sides; `close` calls nothing back before it returns."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            await end.received(5)
            end.transport.write(b"answer")
            await end.lost
        at.log(*end.facts)
        at.log(end.transport.is_closing(), end.transport.is_reading())

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        end.transport.write(b"hello")
        await end.received(6)
        end.transport.close()
        end.facts.append("closed")
        at.log(end.transport.is_closing(), end.transport.is_reading())
        end.transport.close()
        await end.lost
        at.log(*end.facts)

    return server, client


@pair("protocols")
def what_eof_received_returns() -> tuple[Half, Half]:
    """A true value keeps the other direction open; None closes it, after what was written."""

    async def server(at: Stage) -> None:
        ends = [Recorder(keep_open=True), Recorder()]
        async with listening(at, one_after_another(ends)):
            await ends[0].ended
            at.log(ends[0].transport.is_closing())
            ends[0].transport.write(b"after your end")
            ends[0].transport.close()
            await ends[0].lost
            await ends[1].ended
            await ends[1].lost
        at.log(ends[0].facts, ends[1].facts)

    async def client(at: Stage) -> None:
        first = await dial(at, Recorder)
        first.transport.write_eof()
        await first.lost
        at.log(*first.facts)
        second = await dial(at, Recorder)
        second.transport.write(b"question")
        second.transport.write_eof()
        await second.lost
        at.log(*second.facts)

    return server, client


class Small(asyncio.BufferedProtocol):
    """Seven bytes at a time, into the same buffer."""

    def __init__(self) -> None:
        self.buffer, self.data, self.sizes_ok = bytearray(7), bytearray(), True
        self.lost = asyncio.get_running_loop().create_future()
        self.facts: list[Any] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, count: int) -> None:
        self.sizes_ok = self.sizes_ok and 0 < count <= 7
        self.data += self.buffer[:count]

    def eof_received(self) -> None:
        self.facts.append("eof")

    def connection_lost(self, error: Exception | None) -> None:
        self.facts.append(("lost", kind(error)))
        self.lost.set_result(None)


@pair("protocols")
def a_buffer_of_seven() -> tuple[Half, Half]:
    """A BufferedProtocol gets every byte through its own small buffer, then the end."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            transport = await end.made
            transport.write(b"0123456789" * 50)
            transport.close()
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Small)
        await end.lost
        at.log(bytes(end.data), end.sizes_ok, *end.facts)

    return server, client


@pair("protocols")
def a_buffer_that_is_none() -> tuple[Half, Half]:
    """An empty buffer and a failing `get_buffer` are fatal: told to the loop, and to `connection_lost`."""

    class Empty(Small):
        def get_buffer(self, sizehint: int) -> bytearray:
            return bytearray()

    class Failing(Small):
        def get_buffer(self, sizehint: int) -> bytearray:
            raise LookupError("no buffer today")

    class Speaking(Recorder):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(b"x")

    async def server(at: Stage) -> None:
        ends = [Speaking(), Speaking()]
        async with listening(at, one_after_another(ends)):
            for end in ends:
                await end.lost
        at.log(*(end.facts for end in ends))

    async def client(at: Stage) -> None:
        with errors_of_the_loop(at):
            for factory in (Empty, Failing):
                end = await dial(at, factory)
                await end.lost
                at.log(*end.facts)

    return server, client


@pair("protocols")
def writing_is_paused_and_resumed() -> tuple[Half, Half]:
    """`pause_writing` comes inside the write that goes over the mark, `resume_writing` when below the low one."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            transport = await end.made
            narrow(transport)
            transport.pause_reading()
            at.tell("paused")
            await at.hear("over the mark")
            transport.resume_reading()
            at.log((await end.received(len(MEGABYTE))) == MEGABYTE)
            await end.lost
            at.log(end.facts[-2:])

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        narrow(end.transport)
        at.log(end.transport.get_write_buffer_limits(), end.transport.get_write_buffer_size())
        end.transport.set_write_buffer_limits(high=1000)
        at.log(end.transport.get_write_buffer_limits())
        await at.hear("paused")
        end.transport.write(MEGABYTE)
        at.log(end.facts[-1], end.transport.get_write_buffer_size() > 1000)
        at.tell("over the mark")
        end.transport.close()
        at.log(end.transport.is_closing(), end.transport.get_write_buffer_size() > 0)
        await end.lost
        at.log(end.facts, end.transport.get_write_buffer_size())

    return server, client


@pair("protocols")
def marks_of_the_write_buffer() -> tuple[Half, Half]:
    """Which marks are allowed and what they default to; moving the mark under what is buffered pauses at once."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            transport = await end.made
            narrow(transport)
            transport.pause_reading()
            at.tell("paused")
            await at.hear("looked")
            transport.resume_reading()
            await end.lost
            at.log(len(end.data))

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        transport = end.transport
        narrow(transport)
        for marks in ({"high": 0}, {"low": 5}, {"high": 12, "low": 12}, {"high": 1, "low": 2}, {"high": -1}, {}):
            try:
                transport.set_write_buffer_limits(**marks)
            except ValueError as error:
                at.log(str(error))
            else:
                at.log(transport.get_write_buffer_limits())
        transport.set_write_buffer_limits(high=len(MEGABYTE) * 2)
        await at.hear("paused")
        transport.write(MEGABYTE)
        at.log("pause" in end.facts)
        transport.set_write_buffer_limits(high=10)
        transport.write(b"")
        at.log("pause" in end.facts)
        transport.write(b"!")
        at.log("pause" in end.facts)
        at.tell("looked")
        transport.close()
        await end.lost
        at.log(*end.facts)

    return server, client


@pair("protocols")
def reading_is_paused_and_resumed() -> tuple[Half, Half]:
    """What comes while paused stays in the kernel, and the end with it; pausing twice is no error."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            transport = await end.made
            transport.pause_reading()
            transport.pause_reading()
            at.log(transport.is_reading())
            at.tell("paused")
            await at.arrived(transport, 5)
            await at.quiet()
            at.log(list(end.facts))
            transport.resume_reading()
            transport.resume_reading()
            at.log(transport.is_reading(), list(end.facts))
            await end.lost
            at.log(end.facts, transport.is_reading())

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        await at.hear("paused")
        end.transport.write(b"early")
        end.transport.close()
        await end.lost
        at.log(*end.facts)

    return server, client


@pair("protocols")
def a_callback_that_raises() -> tuple[Half, Half]:
    """`data_received` that raises ends its own connection with that error; the peer sees an ordinary end."""

    class Broken(Recorder):
        def data_received(self, data: bytes) -> None:
            self.facts.append("raising")
            raise ArithmeticError("cannot count")

    async def server(at: Stage) -> None:
        with errors_of_the_loop(at):
            end = Broken()
            async with listening(at, lambda: end):
                await end.lost
            at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        end.transport.write(b"1")
        await end.lost
        at.log(*end.facts)

    return server, client


@pair("protocols")
def a_protocol_changed_on_the_way() -> tuple[Half, Half]:
    """After `set_protocol` the new one gets what comes, the end and the loss; the old one nothing more. It may be a buffered one."""

    async def server(at: Stage) -> None:
        old = Recorder()
        async with listening(at, lambda: old):
            await old.received(5)
            transport = old.transport
            new = Small()
            new.connection_made(transport)
            transport.set_protocol(new)
            at.log(transport.get_protocol() is new)
            transport.write(b"go on")
            await new.lost
            at.log(old.facts, bytes(new.data), new.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        end.transport.write(b"first")
        await end.received(5)
        end.transport.write(b"second, and longer than seven")
        end.transport.close()
        await end.lost
        at.log(*end.facts)

    return server, client


@pair("protocols")
def what_may_be_written() -> tuple[Half, Half]:
    """Any bytes-like thing, copied at once; nothing is nothing; text is refused; after the close it is lost without an error."""

    async def server(at: Stage) -> None:
        end = Recorder()
        async with listening(at, lambda: end):
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, Recorder)
        changing = bytearray(b"abc")
        end.transport.write(changing)
        changing[:] = b"xyz"
        end.transport.write(memoryview(b"-def-")[1:4])
        end.transport.write(b"")
        end.transport.writelines([b"g", bytearray(b"h"), memoryview(b"i")])
        for wrong in ("text", 5, None):
            try:
                end.transport.write(wrong)
            except TypeError:
                at.log("TypeError", type(wrong).__name__)
        end.transport.close()
        end.transport.write(b"too late")
        await end.lost
        end.transport.write(b"much too late")
        end.transport.abort()
        at.log(*end.facts)

    return server, client


@pair("protocols")
def both_speak_first() -> tuple[Half, Half]:
    """Writing and even closing inside `connection_made` works on both sides."""

    class Speaking(Recorder):
        def __init__(self, words: bytes, *, close: bool) -> None:
            super().__init__(keep_open=True)
            self._words, self._close = words, close

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            self.transport.write(self._words)
            if self._close:
                self.transport.write_eof()

    async def server(at: Stage) -> None:
        end = Speaking(b"server speaks", close=True)
        async with listening(at, lambda: end):
            await end.ended
            end.transport.close()
            await end.lost
        at.log(*end.facts)

    async def client(at: Stage) -> None:
        end = await dial(at, lambda: Speaking(b"client speaks", close=False))
        await end.ended
        end.transport.write(b", again")
        end.transport.close()
        await end.lost
        at.log(*end.facts)

    return server, client
