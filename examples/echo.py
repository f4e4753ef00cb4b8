"""Somebody else's protocol on holdfast: any asyncio.Protocol, served and dialled.

cd examples
holdfast serve echo:Echo --bind tcp://127.0.0.1:7000      until Ctrl-C
python echo.py tcp://127.0.0.1:7000 hello                 prints what comes back
python echo.py                                            both in one process
"""

import asyncio
import sys
from typing import cast

import holdfast


class Echo(asyncio.Protocol):
    """Sends back what comes. It knows asyncio, and nothing of holdfast."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    # Back-pressure: while the peer does not read its echo, we do not read more of it.
    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class Caller(asyncio.Protocol):
    """Keeps what comes until it is as long as what was sent."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.data = b""
        self.answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data
        if len(self.data) >= self.size and not self.answered.done():
            self.answered.set_result(self.data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.set_exception(exc or ConnectionError("closed before all had come back"))


async def call(address: str, text: str) -> str:
    data = text.encode()
    transport, caller = await holdfast.dial(lambda: Caller(len(data)), address)
    try:
        transport.write(data)
        async with asyncio.timeout(10):
            return (await caller.answered).decode()
    finally:
        transport.close()


async def both() -> None:
    async with holdfast.serve(Echo, bind="tcp://127.0.0.1:0") as server:
        print(await call(server.addresses[0], "hello from one process"))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(asyncio.run(call(sys.argv[1], sys.argv[2])))
    else:
        asyncio.run(both())
