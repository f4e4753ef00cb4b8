"""The contract that the measured client binds."""

from collections.abc import AsyncIterator
from typing import Protocol

from echo_service import Echo


class Bench(Protocol):
    """What `echo_service` offers."""

    async def echo(self, message: Echo) -> Echo:
        """Give back what came."""
        ...

    async def suspend(self, message: Echo) -> Echo:
        """Give back what came, after one turn of the loop."""
        ...

    async def bulk(self, body: bytes) -> bytes:
        """Give back what came."""
        ...

    def items(self, count: int) -> AsyncIterator[Echo]:
        """Give so many small items."""
        ...
