"""A client of the yardstick whose replies are sometimes not what was asked for. Run in the place of `bench.client`.

Only the link is wrong: server, measuring and everything above are the real ones.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from bench import client, peers

WRONG_AT = 40


class Reply(msgspec.Struct):
    """What an echo gives back."""

    a: int
    s: str


class Link:
    """Right until call or item WRONG_AT."""

    def __init__(self) -> None:
        self._calls = 0

    def _wrong(self) -> bool:
        self._calls += 1
        return self._calls == WRONG_AT

    async def echo(self, a: int, s: str) -> Reply:
        return Reply(a, s[:-1] if self._wrong() else s)

    async def bulk(self, body: bytes) -> bytes:
        return body[:-1] + b"?" if self._wrong() else body

    async def items(self, count: int) -> AsyncIterator[Reply]:
        for number in range(count):
            yield Reply(number + self._wrong(), "item")

    async def close(self) -> None:
        pass


async def connect(where: dict[str, Any], in_flight: int) -> Link:
    return Link()


async def dial(where: dict[str, Any]) -> Link:
    link = Link()
    link._calls = WRONG_AT - 1
    return link


if __name__ == "__main__":
    peers.PEERS[peers.YARDSTICK] = dataclasses.replace(peers.PEERS[peers.YARDSTICK], module="tests.bench.wrong_peer")
    client.main()
