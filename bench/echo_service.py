"""The service that is measured: an ordinary Service file, served by `holdfast serve` with its defaults."""

import msgspec

from holdfast import Service

svc = Service("bench")


class Echo(msgspec.Struct, array_like=True, gc=False):
    """The same message that the yardstick sends."""

    a: int
    s: str


@svc.method
async def echo(message: Echo) -> Echo:
    """Give back what came."""
    return message
