"""`holdfast serve MODULE:ATTR`: one service, one process, until a signal.

Owned here: the start-up block and the `ready` line. What may never happen: a line that says `ready` before the kernel accepts, or one
that is not true.
"""

from __future__ import annotations

import os
import sys

import click

from ..errors import ConfigError
from ..facts import Fact
from ..observe.log import Log
from ..runtime.lifecycle import loop_factory, run_until_signal
from ..runtime.signals import Signals
from ..server import ServerConfig, serve
from ..service import Service
from .main import version_line
from .options import Style, common_options, env_option, is_terminal
from .target import load_service
from .values import DURATION, format_duration

EPILOG = """\b
Examples:
  holdfast serve shop:svc
  holdfast serve shop --bind tcp://127.0.0.1:7000 --bind unix:///run/shop.sock
  holdfast serve shop:svc --bind tcp://127.0.0.1:0 --json
  holdfast serve shop:svc --app-dir src --drain 5s
  holdfast serve shop:svc --bind tcp://0.0.0.0:7000 --insecure

\b
SIGTERM or Ctrl-C: stop accepting, finish what is in flight (at most --drain), exit 0.
A second one: stop now, exit 130."""


class Ready(Fact, frozen=True):
    """The service can be called. `addresses` carry the ports the kernel chose."""

    addresses: tuple[str, ...]
    pid: int
    service: str
    methods: int
    loop: str
    version: str


@click.command("serve", epilog=EPILOG)
@click.argument("target", metavar="MODULE[:ATTR]", envvar="HOLDFAST_APP")
@env_option(
    "--bind",
    env="BIND",
    multiple=True,
    metavar="ADDRESS",
    help="Where to listen; may be repeated. tcp://HOST:PORT (port 0: any free one) or unix:///PATH.  [default: tcp://127.0.0.1:7000]",
)
@env_option(
    "--app-dir", env="APP_DIR", default=".", metavar="DIR", help="Where MODULE is looked for first.  [default: the current directory]"
)
@env_option("--drain", env="DRAIN", type=DURATION, default="30s", show_default=True, help="How long calls in flight may take to finish.")
@env_option("--insecure", env="INSECURE", is_flag=True, help="Allow plain text on addresses other hosts can reach.")
@env_option("--workers", env="WORKERS", type=click.IntRange(min=1), metavar="N", default=1, show_default=True, help="Worker processes.")
@common_options
def command(target: str, bind: tuple[str, ...], app_dir: str, drain: float, insecure: bool, workers: int, style: Style) -> int:
    """Put the Service found at MODULE:ATTR on the network.

    ATTR may be left out when the module has exactly one Service.
    """
    if workers > 1:
        raise ConfigError("more than one worker is not there yet; leave --workers out")
    service = load_service(target, app_dir)
    addresses = [part for word in bind for part in word.split(",") if part] or ["tcp://127.0.0.1:7000"]
    config = ServerConfig(drain_s=drain)
    log = style.log(sys.stdout)
    try:
        run_until_signal(lambda signals: _serve(service, addresses, insecure, config, log, signals, style), emit=log)
    finally:
        log.close()
    return 0


async def _serve(service: Service, bind: list[str], insecure: bool, config: ServerConfig, log: Log, signals: Signals, style: Style) -> None:
    async with serve(service, bind=bind, insecure=insecure, config=config, emit=log) as server:
        ready = Ready(
            addresses=tuple(server.addresses),
            pid=os.getpid(),
            service=service.name,
            methods=len(service.routes()),
            loop=loop_factory()[0],
            version=version_line().split(" · ")[0].removeprefix("holdfast "),
        )
        if is_terminal(sys.stdout) and not style.json:
            if not style.quiet:
                click.echo(start_up_block(ready, config.drain_s))
        else:
            log.always(ready)
        await signals.stop()


def start_up_block(ready: Ready, drain_s: float) -> str:
    """What a person sees when the service is up; every line is true."""
    methods = f"{ready.methods} method{'s' if ready.methods != 1 else ''}"
    listen = "\n".join(f"  {'listen' if i == 0 else '':<9} {address}" for i, address in enumerate(ready.addresses))
    return (
        f"{version_line()} · {ready.loop} · pid {ready.pid}\n"
        f"  {'service':<9} {ready.service} ({methods})\n"
        f"{listen}\n"
        f"  {'drain':<9} {format_duration(drain_s)} on SIGTERM or Ctrl-C; again to stop now"
    )
