"""A server as a program: the only module that knows both `server` and `runtime`."""

from __future__ import annotations

from collections.abc import Sequence

from .config import ServerConfig
from .errors import ConfigError
from .facts import Emit, discard
from .net.hosted import ProtocolFactory
from .net.trust import TlsConfig
from .runtime.lifecycle import run_until_signal
from .runtime.signals import Signals
from .server import Server, serve
from .service import Service


def run(
    service: Service | Sequence[Service] | ProtocolFactory,
    *,
    bind: str | Sequence[str],
    insecure: bool = False,
    tls: TlsConfig | None = None,
    config: ServerConfig | None = None,
    emit: Emit = discard,
) -> None:
    """Serve until SIGINT or SIGTERM, then drain and return. On uvloop where it is installed. Arguments as for `serve`.

    With TLS, SIGHUP reads the certificates again.

    Raises: ConfigError. KeyboardInterrupt when a second signal cut the drain short.
    """

    async def program(signals: Signals) -> None:
        async with serve(service, bind=bind, insecure=insecure, tls=tls, config=config, emit=emit) as server:
            if tls is not None:
                reload_at_hangup(server, signals)
            await signals.stop()

    run_until_signal(program, emit=emit)


def reload_at_hangup(server: Server, signals: Signals) -> None:
    """Have each SIGHUP read the files of TLS again."""

    def reload() -> None:
        try:
            server.reload_tls()
        except ConfigError:
            pass  # a fact says so, and the old certificates stay in use

    signals.on_hangup(reload)
