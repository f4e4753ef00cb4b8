"""`holdfast serve MODULE:ATTR`: one service, one process, until a signal.

Owned here: the start-up block and the `ready` line. What may never happen: a line that says `ready` before the kernel accepts, or one
that is not true.
"""

from __future__ import annotations

import os
import sys

import click

from ..config import ServerConfig
from ..errors import ConfigError
from ..facts import Fact
from ..net.hosted import ProtocolFactory
from ..net.trust import TlsConfig
from ..observe.log import Log
from ..program import reload_at_hangup
from ..runtime.lifecycle import loop_factory, run_until_signal
from ..runtime.signals import Signals
from ..server import serve
from ..service import Service
from .main import version_line
from .options import Style, common_options, env_option, is_terminal
from .target import load_target
from .tls import serve_tls_options
from .values import DURATION, format_duration

EPILOG = """\b
Examples:
  holdfast serve shop:svc
  holdfast serve shop --bind tcp://127.0.0.1:7000 --bind unix:///run/shop.sock
  holdfast serve shop:svc --app-dir src --drain 5s --json
  holdfast serve echo:Echo --bind tcp://127.0.0.1:7000
  holdfast serve shop:svc --bind tls://0.0.0.0:7000 --tls-cert shop.pem --tls-key shop.key

\b
SIGTERM or Ctrl-C: stop accepting, finish what is in flight (at most --drain), exit 0.
A second one: stop now, exit 130. With TLS, SIGHUP: read the certificates again."""


class Ready(Fact, frozen=True):
    """The service can be called. `addresses` carry the ports the kernel chose."""

    addresses: tuple[str, ...]
    pid: int
    service: str
    methods: int
    loop: str
    version: str


class ListensWith(Fact, frozen=True):
    """How one listener accepts: its options as read back from the kernel. Written with `-v`."""

    address: str
    options: dict[str, object]


@click.command("serve", epilog=EPILOG)
@click.argument("target", metavar="MODULE[:ATTR]", envvar="HOLDFAST_APP")
@env_option(
    "--bind",
    env="BIND",
    multiple=True,
    metavar="ADDRESS",
    help="Where to listen; may be repeated. tcp:// or tls://HOST:PORT (port 0: any free one), or unix:///PATH.  [default: tcp://127.0.0.1:7000]",
)
@env_option(
    "--app-dir", env="APP_DIR", default=".", metavar="DIR", help="Where MODULE is looked for first.  [default: the current directory]"
)
@env_option("--drain", env="DRAIN", type=DURATION, default="30s", show_default=True, help="How long calls in flight may take to finish.")
@env_option("--insecure", env="INSECURE", is_flag=True, help="Allow plain text on addresses other hosts can reach.")
@serve_tls_options
@env_option("--workers", env="WORKERS", type=click.IntRange(min=1), metavar="N", default=1, show_default=True, help="Worker processes.")
@common_options
def command(
    target: str,
    bind: tuple[str, ...],
    app_dir: str,
    drain: float,
    insecure: bool,
    tls: TlsConfig | None,
    workers: int,
    style: Style,
) -> int:
    """Put the Service found at MODULE:ATTR on the network.

    ATTR may be left out when the module has exactly one Service. It may also name an asyncio protocol class, or a function annotated to
    return one: each connection gets a protocol of its own.
    """
    if workers > 1:
        raise ConfigError("more than one worker is not there yet; leave --workers out")
    service = load_target(target, app_dir)
    addresses = [part for word in bind for part in word.split(",") if part] or ["tcp://127.0.0.1:7000"]
    config = ServerConfig(drain_s=drain)
    log = style.log(sys.stdout)
    try:
        run_until_signal(lambda signals: _serve(service, addresses, insecure, tls, config, log, signals, style), emit=log)
    finally:
        log.close()
    return 0


async def _serve(
    service: Service | ProtocolFactory,
    bind: list[str],
    insecure: bool,
    tls: TlsConfig | None,
    config: ServerConfig,
    log: Log,
    signals: Signals,
    style: Style,
) -> None:
    async with serve(service, bind=bind, insecure=insecure, tls=tls, config=config, emit=log) as server:
        if tls is not None:
            reload_at_hangup(server, signals)
        ready = Ready(
            addresses=tuple(server.addresses),
            pid=os.getpid(),
            service=service.name if isinstance(service, Service) else getattr(service, "__name__", "protocol"),
            methods=len(service.routes()) if isinstance(service, Service) else 0,
            loop=loop_factory()[0],
            version=version_line().split(" · ")[0].removeprefix("holdfast "),
        )
        if is_terminal(sys.stdout) and not style.json:
            if not style.quiet:
                click.echo(start_up_block(ready, config.drain_s))
        else:
            log.always(ready)
        if style.verbose:
            for listener in server.listeners():
                log.always(ListensWith(listener.address, dict(listener.options)))
        await signals.stop()


def start_up_block(ready: Ready, drain_s: float) -> str:
    """What a person sees when the service is up; every line is true."""
    methods = f"{ready.methods} method{'s' if ready.methods != 1 else ''}" if ready.methods else "protocol"
    listen = "\n".join(f"  {'listen' if i == 0 else '':<9} {address}" for i, address in enumerate(ready.addresses))
    return (
        f"{version_line()} · {ready.loop} · pid {ready.pid}\n"
        f"  {'service':<9} {ready.service} ({methods})\n"
        f"{listen}\n"
        f"  {'drain':<9} {format_duration(drain_s)} on SIGTERM or Ctrl-C; again to stop now"
    )
