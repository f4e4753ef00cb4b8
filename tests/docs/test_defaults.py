"""The page of defaults is complete, and says what the code does."""

from __future__ import annotations

import dataclasses
import inspect
import re

import msgspec
import pytest

import holdfast
from holdfast import config as config_module
from holdfast.balance import eject, endpoint, listing, pool, strain
from holdfast.balance.balancer import BalanceConfig
from holdfast.balance.eject import EjectConfig
from holdfast.balance.members import MembersConfig
from holdfast.balance.picker import SlowStart
from holdfast.balance.pool import PoolConfig
from holdfast.balance.resolve import ResolveConfig
from holdfast.balance.strain import StrainConfig
from holdfast.calling import nodes
from holdfast.config import ClientConfig, ServerConfig
from holdfast.control import budget, gradient
from holdfast.control.budget import BudgetConfig
from holdfast.framing import delimited, lengths
from holdfast.net import census, door, eyeballs, framed, hello, link, listener, resolver, tcp, trust
from holdfast.net.options import ConnectOptions, ListenOptions, StreamOptions
from holdfast.net.trust import TlsConfig
from holdfast.policy import hedge
from holdfast.policy.breaker import BreakerConfig
from holdfast.policy.fallback import FallbackConfig
from holdfast.policy.hedge import HedgeConfig
from holdfast.policy.limit import LimitConfig
from holdfast.policy.retry import RetryConfig
from holdfast.policy.throttle import ThrottleConfig
from holdfast.rpc import codes, hops, line, session
from holdfast.rpc.dialer import DialConfig
from holdfast.rpc.session import SessionShared
from holdfast.wire import Settings, frames, status
from tests.docs.tables import LANGUAGES, reference, rows, words

UNITS = {"s": 1, "KiB": 2**10, "MiB": 2**20}
POLICIES = (RetryConfig, BudgetConfig, HedgeConfig, BreakerConfig, ThrottleConfig, LimitConfig, FallbackConfig)
NODES = (BalanceConfig, EjectConfig, StrainConfig, ResolveConfig, MembersConfig, PoolConfig)
IDENTITY = {"instance", "name", "catalogue", "codec", "features"}
"""Settings that say who somebody is; nobody chooses a limit there."""
PARTS = {"loop", "wheel", "emit", "settings", "budget", "settled", "cancels_per_s", "pings_per_s", "checksum"}
"""Of SessionShared: what the roofs hand in, some of it from the configuration, where it has its row."""


def nested(config: type) -> dict[str, type]:
    """The configs inside of a config, by field: each has its own table."""
    made = config()
    return {f.name: type(getattr(made, f.name)) for f in dataclasses.fields(config) if isinstance(getattr(made, f.name), msgspec.Struct)}


def dataclass_defaults(config: type) -> dict[str, object]:
    return {f"{config.__name__}.{f.name}": f.default for f in dataclasses.fields(config) if f.name not in nested(config)}


def struct_defaults(config: type[msgspec.Struct]) -> dict[str, object]:
    fields = [f for f in msgspec.structs.fields(config) if f.name not in IDENTITY | PARTS]
    return {
        f"{config.__name__}.{f.name}": f.default if f.default_factory is msgspec.NODEFAULT else repr(f.default_factory()) for f in fields
    }


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
    for struct in (link.DatagramOptions, *POLICIES, *NODES, DialConfig, Settings, SessionShared):
        says |= struct_defaults(struct)
    says |= {f"endpoint.{name}": getattr(endpoint, name) for name in ("TAU_S", "SEED_S", "PENALTY_S", "PENALTY_MAX_S", "ASKED_MIN_S")}
    says |= {f"eject.{name}": getattr(eject, name) for name in ("PRIOR", "PEERS_MIN", "PEER_ATTEMPTS_MIN")}
    says |= {"strain.LATE_MIN": strain.LATE_MIN, "budget.UNEARNED_PART": budget.UNEARNED_PART}
    says |= {f"listing.{name}": getattr(listing, name) for name in ("FILE_MAX_BYTES", "NODES_MAX")}
    says |= {f"pool.{name}": getattr(pool, name) for name in ("CONNECTIONS_LIMIT", "DRAINING_MAX")}
    says |= {f"hedge.{name}": getattr(hedge, name) for name in ("METHODS_MAX", "FULLNESS_MIN")}
    says |= {"SlowStart.min_factor": SlowStart().min_factor, "nodes.LAG_S": nodes.LAG_S, "gradient.SLOW_S": gradient.SLOW_S}
    says |= {"hops.HOPS_MAX": hops.HOPS_MAX, "status.HOPS_MAX_BYTES": status.HOPS_MAX_BYTES}
    says |= {"frames.TRAILERS_MAX_BYTES": frames.TRAILERS_MAX_BYTES, "session.SILENT_S": session.SILENT_S}
    says |= {f"link.{name}": getattr(link, name) for name in ("SEND_STALL_S", "HIGH_WATER_BYTES", "LOW_WATER_BYTES")}
    says |= {"config.FRAME_MAX_BYTES": config_module.FRAME_MAX_BYTES}
    says |= {"session.WRITE_BYTES": session.WRITE_BYTES, "line.LINE_MAX": line.LINE_MAX}
    says |= {"dial.deadline": inspect.signature(holdfast.dial).parameters["deadline"].default}
    says |= {"lengths.MESSAGE_MAX_BYTES": lengths.MESSAGE_MAX_BYTES, "delimited.LINE_MAX_BYTES": delimited.LINE_MAX_BYTES}
    says |= {"framed.SEND_MAX_BYTES": framed.SEND_MAX_BYTES}
    says |= {f"TlsConfig.{name}": getattr(TlsConfig(), name) for name in ("handshake_timeout_s", "reload_s")}
    says |= {f"trust.{name}": getattr(trust, name) for name in ("LEAKED_MAX", "SESSIONS_MAX", "EXPIRES_SOON_S")}
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


@pytest.mark.parametrize("config", [ClientConfig, ServerConfig])
def test_a_config_inside_of_a_config_is_among_those_that_are_looked_at(config: type) -> None:
    covered = {name.partition(".")[0] for name in code_says()}
    assert {kind.__name__ for kind in nested(config).values()} <= covered


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
