"""A server as a program: the only module that knows both `server` and `runtime`."""

from __future__ import annotations

from collections.abc import Sequence

from .facts import Emit, discard
from .runtime.lifecycle import run_until_signal
from .runtime.signals import Signals
from .server import ServerConfig, serve
from .service import Service


def run(
    service: Service | Sequence[Service],
    *,
    bind: str | Sequence[str],
    insecure: bool = False,
    config: ServerConfig | None = None,
    emit: Emit = discard,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain and return. On uvloop where it is installed. Arguments as for `serve`.

    Raises: ConfigError. KeyboardInterrupt when a second signal cut the drain short.
    """

    async def program(signals: Signals) -> None:
        async with serve(service, bind=bind, insecure=insecure, config=config, emit=emit):
            await signals.stop()

    run_until_signal(program, emit=emit)
