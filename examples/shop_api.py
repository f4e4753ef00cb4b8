"""What the shop offers, for both sides: `client.bind(Shop)` is typed as it, `Service("shop", contract=Shop)` is checked against it.

In a larger project the types live here too, and the service imports them.
"""

from collections.abc import AsyncIterator
from typing import Protocol

from shop import Order


class Shop(Protocol):
    async def place(self, order: Order) -> str: ...
    async def price(self, sku: str) -> float: ...
    async def report(self, day: str) -> bytes: ...
    def watch(self, since: int) -> AsyncIterator[Order]: ...  # a stream in a stub is a plain def
    async def upload(self, name: str, chunks: AsyncIterator[bytes]) -> int: ...
