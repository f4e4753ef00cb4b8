"""A duplex stream: both sides talk while both sides listen. One file, one process: `python talk.py`.

The client says its next line only when it has read the answer to the last one, so each line must cross the wire before the next is made.
"""

import asyncio
from collections.abc import AsyncIterator

import holdfast

svc = holdfast.Service("chat")

ANSWERS = {"hello": "hello, who is there?", "a client": "how are you, client?", "bye": "bye"}


@svc.method
async def talk(lines: AsyncIterator[str]) -> AsyncIterator[str]:
    """Answer each line as it comes, until there are no more."""
    async for line in lines:
        yield ANSWERS.get(line, f"what is {line!r}?")


async def main() -> None:
    answered = asyncio.Semaphore(1)

    async def lines() -> AsyncIterator[str]:
        for line in ANSWERS:
            await answered.acquire()
            print(">", line)
            yield line

    async with holdfast.serve(svc, bind="tcp://127.0.0.1:0") as server, holdfast.connect(server.addresses[0]) as client:
        async with client.stream("chat.talk", lines=lines(), returns=str) as replies:
            async for reply in replies:
                print("<", reply)
                answered.release()


if __name__ == "__main__":
    asyncio.run(main())
