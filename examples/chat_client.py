"""A client of the chat: what you type is sent, what others say is printed. It comes back by itself when the server does.

python chat_client.py tcp://127.0.0.1:7000 ada
"""

import asyncio
import sys

import holdfast
from holdfast.framing import Lines
from holdfast.net import Framed


class Member(Framed):
    """One connection; after a loss there is another one, and it says the name again."""

    def __init__(self, name: str, now: list["Member"]) -> None:
        super().__init__(Lines(ending=b"\r\n"))
        self.name = name
        self.now = now
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.now[:] = [self]
        self.send(self.name.encode())

    def message_received(self, message: bytes) -> None:
        print(message.decode(errors="replace"), flush=True)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def main(address: str, name: str) -> None:
    now: list[Member] = []
    transport, _ = await holdfast.dial(lambda: Member(name, now), address, reconnect=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        if not now[0].send(line.strip().encode()):
            print("* not connected; this line was not sent", flush=True)
    last = now[0]
    transport.close()  # of the first connection; it ends the last one too
    await last.lost


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
