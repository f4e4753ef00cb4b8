"""holdfast's caller: the public client, with its defaults or with hedging on.

What may never happen here: an option that the variant's note does not name.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Protocol

import msgspec

import holdfast
from bench.failover.contenders import DEADLINE_S, Link, Outcome
from holdfast import HoldfastError

OUTCOMES: dict[str, Outcome] = {"no": "not_executed", "maybe": "unknown", "yes": "failed"}


class Node(Protocol):
    """What `service.py` offers."""

    async def look(self, call_id: int) -> int: ...
    async def place(self, call_id: int) -> int: ...


class Caller:
    """One client."""

    def __init__(self, client: holdfast.Client, node: Node) -> None:
        self._client = client
        self._node = node

    async def ready(self) -> None:
        """Return when a node has answered. Cancel: loses nothing."""
        await self._client.ready(deadline=DEADLINE_S)

    async def call(self, call_id: int, idempotent: bool) -> tuple[Outcome, str]:
        """Make a call; return how it ended and why. Cancel: the call is given up."""
        try:
            found = await (self._node.look if idempotent else self._node.place)(call_id)
        except HoldfastError as error:
            return OUTCOMES[error.executed], f"{type(error).__name__}: {error}"
        return ("ok", "") if found == call_id else ("failed", "the answer to another call")

    async def ticks(self, number: int) -> AsyncGenerator[int]:
        """Open a stream that goes on for ever. Cancel: the stream is cancelled."""
        async with self._client.stream("node.ticks", number, returns=int) as items:
            async for item in items:
                yield item

    async def close(self) -> None:
        """Close everything. Cancel: the rest is aborted."""
        await self._client.close()


def lacking(variant: str) -> str | None:
    """Return what this holdfast cannot do yet, in a line for people."""
    try:
        holdfast.connect("tcp://127.0.0.1:1,tcp://127.0.0.1:2")
    except HoldfastError as error:
        return f"this holdfast connects to one address only ({error})"
    if variant == "hedged" and not hasattr(holdfast.ClientConfig(), "hedge"):
        return "this holdfast cannot hedge: ClientConfig has no hedge"
    return None


def configured(variant: str) -> holdfast.ClientConfig | None:
    """Return what the variant configures; None leaves every default."""
    if variant != "hedged":
        return None
    return holdfast.ClientConfig(hedge=msgspec.structs.replace(holdfast.ClientConfig().hedge, mode="enforce"))


async def connect(ports: list[int], variant: str) -> Link:
    """Return a link to the nodes at these ports. Cancel: loses nothing."""
    client = holdfast.connect(",".join(f"tcp://127.0.0.1:{port}" for port in ports), config=configured(variant))
    await client.__aenter__()
    return Caller(client, client.bind(Node))
