"""`holdfast check`: what a client and a server are made of, before they are: every setting, or the layers that a call would pass.

Owned here: how that is printed. What may never happen: a connection that nobody asked for, or a layer in the print that is not in the
client; the stack printed is the one of a real client, entered on a network that leads nowhere unless `--connect` was given.
"""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import click
import msgspec

from ..calling.stack import rows
from ..client import Client, connect
from ..config import ClientConfig, ServerConfig
from ..errors import HoldfastError, Unavailable
from ..facts import Fact, NodeChanged
from ..handler import MethodInfo, Request
from ..net.address import Address
from ..net.link import Link, Receiver
from ..net.memory import MemoryNetwork
from ..net.trust import TlsConfig
from ..rpc.dialer import CATALOGUE_METHOD
from ..runtime.lifecycle import loop_factory
from .call import reach
from .options import Style, common_options, env_option
from .results import table
from .target import load_config
from .text import printable
from .tls import call_tls_options
from .values import DURATION, format_duration

WIDTH = 100
ROLE_CHARS = 12

EPILOG = """\b
Examples:
  holdfast check
  holdfast check --json
  holdfast check --config shop.settings:client
  holdfast check --stack tcp://10.0.0.1:7000,tcp://10.0.0.2:7000 --insecure
  holdfast check --stack tcp://127.0.0.1:7000 --config shop.settings:client
  holdfast check --stack tcp://127.0.0.1:7000 --connect"""

PARTS: dict[str, tuple[str, ...]] = {
    "deadline": ("deadline_s",),
    "throttle": ("throttle",),
    "retry": ("retry", "budget", "hedge"),
    "limit": ("limit",),
    "balance": ("balance", "eject", "strain", "members", "resolve"),
    "breaker": ("breaker",),
    "attempt": (),
    "connection": ("dial", "pool", "waiting_max", "checksum"),
}
"""What of ClientConfig has its say at each role of the stack."""

SWITCHES: dict[str, tuple[str, str]] = {
    "throttle": ("mode", "enforce"),
    "budget": ("mode", "enforce"),
    "hedge": ("mode", "enforce"),
    "limit": ("mode", "enforce"),
    "breaker": ("mode", "enforce"),
    "eject": ("mode", "enforce"),
    "strain": ("mode", "enforce"),
    "fallback": ("values", "{'shop.price': 9.9}"),
}
"""What can be off, and what turns it on: the field, and a value for it."""


class Part(msgspec.Struct, frozen=True):
    """One config at a layer, with its numbers. `mode` is None for what has no switch."""

    name: str
    mode: str | None
    numbers: dict[str, Any]


class Row(msgspec.Struct, frozen=True):
    """One layer of the stack: its role, why it stands there, and what it goes by."""

    role: str
    why: str
    parts: list[Part]


class Off(msgspec.Struct, frozen=True):
    """What has no effect as it is: `mode` is `off`, `shadow` (it only counts) or `empty`; and what to write to turn it on."""

    name: str
    mode: str
    turn_on: str


class Asked(NamedTuple):
    """What was asked for."""

    addresses: str
    connect: bool
    deadline_s: float
    insecure: bool
    tls: TlsConfig | None
    config: ClientConfig


@click.command("check", epilog=EPILOG)
@env_option("--stack", env="STACK", metavar="ADDRESS[,ADDRESS]...", help="Print the layers that a call to these addresses passes.")
@env_option("--connect", "connecting", env="CONNECT", is_flag=True, help="With --stack: connect, and say how each node is.")
@env_option("--config", "named", env="CONFIG", metavar="MODULE:ATTR", help="Your ClientConfig or ServerConfig, in place of the defaults.")
@env_option(
    "--app-dir", env="APP_DIR", default=".", metavar="DIR", help="Where its module is looked for first.  [default: the current directory]"
)
@env_option("--deadline", env="DEADLINE", type=DURATION, default="10s", show_default=True, help="With --connect: how long that may take.")
@env_option("--insecure", env="INSECURE", is_flag=True, help="Allow plain text to an address on another host.")
@call_tls_options
@common_options
def command(
    stack: str | None,
    connecting: bool,
    named: str | None,
    app_dir: str,
    deadline: float,
    insecure: bool,
    tls: TlsConfig | None,
    style: Style,
) -> int:
    """Print every setting of a client and a server, with where its value is from; or a client's stack, layer by layer.

    With --config these are the ones of your program, which is imported for that. Nothing is connected unless --connect is given.
    """
    config = load_config(named, app_dir) if named is not None else None
    if stack is None:
        if connecting:
            raise click.UsageError("--connect goes with --stack ADDRESS: which nodes to connect to")
        found = list(settings(config, named or ""))
        text = table([(name, _value(value), origin) for name, value, origin in found])
        as_json = {"settings": [{"name": name, "value": value, "origin": origin} for name, value, origin in found]}
        click.echo(msgspec.json.encode(as_json, enc_hook=repr).decode() if style.json else text)
        return 0
    if isinstance(config, ServerConfig):
        raise click.UsageError(f"--stack shows a client's layers, and {named} is a ServerConfig: leave --stack out, or name a ClientConfig")
    asked = Asked(stack, connecting, deadline, insecure, tls, config or ClientConfig())
    with asyncio.Runner(loop_factory=loop_factory()[1]) as runner:
        failed = runner.run(_check(asked, style))
    if failed is not None:
        raise failed
    return 0


# ---------------------------------------------------------------------- settings


def settings(config: ClientConfig | ServerConfig | None = None, where: str = "") -> Iterator[tuple[str, object, str]]:
    """Every setting of both sides, or of the one that a config is about, as (name, value, origin).

    The origin is `default`, or `where` the config stands for what it has otherwise.
    """
    if not isinstance(config, ServerConfig):
        yield "connect.attempts", _attempts(), "default"
    for side, default in (("client", ClientConfig()), ("server", ServerConfig())):
        if config is None or type(config) is type(default):
            usual = dict(_flat(default))
            for name, value in _flat(config or default):
                yield f"{side}.{name}", value, "default" if name in usual and usual[name] == value else where


def _flat(config: Any) -> Iterator[tuple[str, object]]:
    for name, value in fields(config).items():
        if isinstance(value, msgspec.Struct) or dataclasses.is_dataclass(value):
            yield from ((f"{name}.{below}", each) for below, each in _flat(value))
        else:
            yield name, f"{value.__module__}.{value.__qualname__}" if inspect.isroutine(value) else value


def fields(config: Any) -> dict[str, Any]:
    """The fields of a config and their values, in the order they are written."""
    names = config.__struct_fields__ if isinstance(config, msgspec.Struct) else [field.name for field in dataclasses.fields(config)]
    return {name: getattr(config, name) for name in names}


def _attempts() -> int:
    default: int = inspect.signature(connect).parameters["attempts"].default
    return default


# ---------------------------------------------------------------------- the stack


class _Nowhere(MemoryNetwork):
    """A network for a client that is looked at and never used."""

    async def connect(self, address: Address, make_receiver: Callable[[], Receiver], *, timeout_s: float) -> Link:
        raise Unavailable(f"{address} is not connected to: only --connect does that")

    async def lookup(self, address: Address) -> list[Address]:
        raise Unavailable(f"{address} is not looked up: only --connect does that")


async def _check(asked: Asked, style: Style) -> HoldfastError | None:
    """Print the stack, and the nodes if asked to; return why no node could be reached, if none could."""
    changed = asyncio.Event()

    def emit(fact: Fact) -> None:
        if isinstance(fact, NodeChanged):
            changed.set()

    config, failed, nodes = asked.config, None, None
    network = None if asked.connect else _Nowhere()
    async with connect(asked.addresses, insecure=asked.insecure, tls=asked.tls, config=config, emit=emit, network=network) as client:
        layers = [Row(role, why, parts(role, config)) for role, why in rows(client._core.stack)]
        if asked.connect:
            failed = await _settle(client, changed, asked)
            nodes = await _look(client, asked.deadline_s)
    off = switched_off(config)
    if style.json:
        document = {"addresses": asked.addresses, "stack": layers, "off": off, "nodes": nodes}
        click.echo(msgspec.json.encode(document, enc_hook=repr).decode())
    else:
        click.echo("\n".join([*stack_lines(asked.addresses, layers, off), *(node_lines(nodes) if nodes is not None else [])]))
    return failed


def parts(role: str, config: ClientConfig) -> list[Part]:
    """What a layer goes by: its configs, each with its mode and numbers."""
    found = [Part("attempts", None, {"attempts": _attempts()})] if role == "retry" else []
    for name in PARTS.get(role, ()):
        value = getattr(config, name)
        numbers = fields(value) if isinstance(value, msgspec.Struct) else {name: value}
        found.append(Part(name, numbers.pop("mode", None), numbers))
    return found


def switched_off(config: ClientConfig) -> list[Off]:
    """What has no effect as it is configured, and how to turn it on."""
    found = []
    for name, (field, value) in SWITCHES.items():
        part = getattr(config, name)
        mode = part.mode if part.mode != "enforce" or getattr(part, field) else "empty"
        if mode != "enforce":
            kind = type(part)
            setting = f'{field}="{value}"' if field == "mode" else f"{field}={value}"
            found.append(Off(name, mode, f"ClientConfig({name}={kind.__name__}({setting})); {kind.__name__} is in {kind.__module__}"))
    return found


def stack_lines(addresses: str, layers: list[Row], off: list[Off]) -> list[str]:
    """The stack for people: the layers with their reasons and numbers, and what is off."""
    lines = [f"A call to {printable(addresses)} passes, from the outside in:"]
    for number, row in enumerate(layers, 1):
        lines += ["", *_wrapped(f"{number:>2}  {row.role:<{ROLE_CHARS}}", row.why)]
        for part in row.parts:
            mode = f" ({part.mode})" if part.mode is not None else ""
            numbers = ", ".join(f"{name}={_value(value)}" for name, value in part.numbers.items())
            lines += _wrapped(" " * (ROLE_CHARS + 4), numbers if part.name in part.numbers else f"{part.name}{mode}: {numbers}")
    if not addresses.startswith(("dns+", "file:")) and "," not in addresses:
        lines += ["", "With one node alone, its breaker only reports: there is nobody else to ask."]
    if off:
        lines += ["", "Without effect as it is, and what turns it on:"]
        for each in off:
            lines += _wrapped(f"    {each.name:<{ROLE_CHARS}}", f"{each.mode}: {each.turn_on}")
    return lines


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=" " * (ROLE_CHARS + 4), break_on_hyphens=False) or [
        head.rstrip()
    ]


def _value(value: object) -> str:
    return f"{value:.12g}" if isinstance(value, float) else printable(value if isinstance(value, str) and value else repr(value))


# ---------------------------------------------------------------------- the nodes


async def _settle(client: Client, changed: asyncio.Event, asked: Asked) -> HoldfastError | None:
    """Wait until each node is connected or is not going to be; return why none is, when none is."""
    within = asyncio.timeout(asked.deadline_s)
    failed: HoldfastError | None = None
    try:
        async with within:
            try:
                await reach(client.using(attempts=1).catalogue(), asked.addresses, asked.deadline_s)
            except HoldfastError as error:
                failed = error
            while any(node.state == "connecting" for node in client.nodes):
                changed.clear()
                await changed.wait()
    except TimeoutError:
        if not within.expired():
            raise
    return None if any(node.state == "ready" for node in client.nodes) else failed or Unavailable(f"{asked.addresses}: no node is ready")


async def _look(client: Client, within_s: float) -> list[dict[str, Any]]:
    """How each node is, with the time one small call to it takes: its own, `holdfast.catalogue`."""
    core = client._core
    took: dict[str, float | None] = {}
    for key, node in list(core.balancer.nodes.items()):
        took[key] = None
        if node.state == "ready":
            started = core.now()
            request = Request(
                MethodInfo(CATALOGUE_METHOD, "unary", True), b"\x80", False, started + within_s, 0, wire_name=CATALOGUE_METHOD.encode()
            )
            try:
                await node.target.send(request)
            except HoldfastError:
                continue  # its state says the rest
            took[key] = core.now() - started
    return [{**msgspec.structs.asdict(node), "round_trip_s": took.get(node.address)} for node in client.nodes]


def node_lines(nodes: list[dict[str, Any]]) -> list[str]:
    """The nodes for people, one line each."""
    cells = [("node", "state", "for", "breaker", "round trip", "load", "last error")]
    for node in nodes:
        trip = "" if node["round_trip_s"] is None else format_duration(node["round_trip_s"])
        load = f"{node['load']:.0%}" if node["state"] == "ready" else ""
        cells.append((node["address"], node["state"], format_duration(node["for_s"]), node["breaker"], trip, load, node["last_error"]))
    return ["", table(cells)]
