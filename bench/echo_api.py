"""The contract that the measured client binds."""

from typing import Protocol

from echo_service import Echo


class Bench(Protocol):
    """What `echo_service` offers."""

    async def echo(self, message: Echo) -> Echo:
        """Give back what came."""
        ...
