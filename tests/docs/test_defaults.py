"""The page of defaults is complete, and says what the code does."""

from __future__ import annotations

import dataclasses
import inspect
import re

import msgspec
import pytest

import holdfast
from holdfast import config as config_module
from holdfast.config import ClientConfig, ServerConfig
from holdfast.framing import delimited, lengths
from holdfast.net import census, door, eyeballs, framed, hello, link, listener, resolver, tcp, trust
from holdfast.net.options import ConnectOptions, ListenOptions, StreamOptions
from holdfast.net.trust import TlsConfig
from holdfast.policy.retry import RetryConfig
from holdfast.rpc import caller, codes, session
from holdfast.rpc.dialer import DialConfig
from holdfast.rpc.session import SessionShared
from holdfast.wire import Settings
from tests.docs.tables import LANGUAGES, reference, rows, words

UNITS = {"s": 1, "KiB": 2**10, "MiB": 2**20}
NESTED = {"wire", "listen", "connect", "datagrams", "dial", "retry"}
IDENTITY = {"instance", "name", "catalogue", "codec", "features"}
"""Settings that say who somebody is; nobody chooses a limit there."""
PARTS = {"loop", "wheel", "emit", "settings", "budget", "settled", "cancels_per_s", "pings_per_s", "checksum"}
"""Of SessionShared: what the roofs hand in, some of it from the configuration, where it has its row."""


def dataclass_defaults(config: type) -> dict[str, object]:
    return {f"{config.__name__}.{f.name}": f.default for f in dataclasses.fields(config) if f.name not in NESTED}


def struct_defaults(config: type[msgspec.Struct]) -> dict[str, object]:
    fields = msgspec.structs.fields(config)
    return {f"{config.__name__}.{f.name}": f.default for f in fields if f.name not in IDENTITY | PARTS}


def code_says() -> dict[str, object]:
    """Every default by the name the page gives it."""
    says: dict[str, object] = {"connect.attempts": inspect.signature(holdfast.connect).parameters["attempts"].default}
    for config in (ServerConfig, ClientConfig):
        says |= dataclass_defaults(config)
    says |= struct_defaults(StreamOptions)
    inherited = {name.partition(".")[2] for name in struct_defaults(StreamOptions)}
    for options in (ListenOptions, ConnectOptions):
        says |= {name: default for name, default in struct_defaults(options).items() if name.partition(".")[2] not in inherited}
    says |= {f"census.{name}": getattr(census, name) for name in ("HEADROOM_DESCRIPTORS", "PER_PREFIX_MAX")}
    says |= {f"listener.{name}": getattr(listener, name) for name in ("COSTLY_PER_S", "COSTLY_BURST", "RETRY_S")}
    says |= {f"resolver.{name}": getattr(resolver, name) for name in ("THREADS_MAX", "WAITING_MAX")}
    says |= {f"tcp.{name}": getattr(tcp, name) for name in ("LINGER_S", "LINGER_MAX_BYTES")}
    says |= {"eyeballs.TARGETS_MAX": eyeballs.TARGETS_MAX, "door.LEAVING_MAX": door.LEAVING_MAX}
    for struct in (link.DatagramOptions, RetryConfig, DialConfig, Settings, SessionShared):
        says |= struct_defaults(struct)
    says |= {f"link.{name}": getattr(link, name) for name in ("SEND_STALL_S", "HIGH_WATER_BYTES", "LOW_WATER_BYTES")}
    says |= {"config.FRAME_MAX_BYTES": config_module.FRAME_MAX_BYTES}
    says |= {"session.WRITE_BYTES": session.WRITE_BYTES, "caller.LINE_MAX": caller.LINE_MAX}
    says |= {"dial.deadline": inspect.signature(holdfast.dial).parameters["deadline"].default}
    says |= {"lengths.MESSAGE_MAX_BYTES": lengths.MESSAGE_MAX_BYTES, "delimited.LINE_MAX_BYTES": delimited.LINE_MAX_BYTES}
    says |= {"framed.SEND_MAX_BYTES": framed.SEND_MAX_BYTES}
    says |= {f"TlsConfig.{name}": getattr(TlsConfig(), name) for name in ("handshake_timeout_s", "reload_s")}
    says |= {f"trust.{name}": getattr(trust, name) for name in ("SESSIONS_MAX", "EXPIRES_SOON_S")}
    says |= {"hello.HELLO_MAX_BYTES": hello.HELLO_MAX_BYTES}
    return says | {f"codes.{name}": getattr(codes, name) for name in ("MESSAGE_MAX_BYTES", "DETAILS_MAX_BYTES")}


def value_of(cell: str) -> float | str | None:
    """Read a default as people write it: `64 KiB`, `1,000`, `200/s`, `0o600`, `off`, None, or a word in backticks."""
    if cell == "None":
        return None
    if cell.startswith("`"):
        return cell.strip("`")
    if cell in ("on", "off"):
        return cell == "on"
    match = re.fullmatch(r"(0o[0-7]+|[\d.,]+)(?: (\w+)|/s)?", cell)
    assert match is not None, f"{cell!r} is not a default anybody can read"
    number, unit = match.groups()
    return int(number, 8) if number.startswith("0o") else float(number.replace(",", "")) * UNITS[unit or "s"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_default_stands_on_the_page_with_its_value(language: str) -> None:
    page_says = {words(item)[0]: value_of(default) for item, default, _ in rows(reference(language, "defaults.md"))}
    assert page_says == code_says()


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_default_is_defended(language: str) -> None:
    assert [item for item, _, why in rows(reference(language, "defaults.md")) if len(why) < 8] == []


@pytest.mark.parametrize(
    ("cell", "value"), [("64 KiB", 65536), ("1,000", 1000), ("0.025 s", 0.025), ("0o600", 0o600), ("off", False), ("30 s", 30)]
)
def test_a_default_is_read_as_people_write_it(cell: str, value: float) -> None:
    assert value_of(cell) == value


def test_a_default_nobody_can_read_is_found() -> None:
    with pytest.raises(AssertionError, match="a while"):
        value_of("a while")
