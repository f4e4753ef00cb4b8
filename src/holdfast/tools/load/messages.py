"""What the parent and its client processes say to each other, and how it becomes bytes.

    parent ► process    Job, then Start, then perhaps Stop
    process ► parent    Ready, then Progress once a second, then Measured; or Failed instead of any of them

Owned here: those values and their form, msgpack behind a length. What may never happen: a message larger than MESSAGE_MAX_BYTES.
"""

from __future__ import annotations

import os
from typing import TypeAlias

import msgspec

from ...errors import ConfigError, HoldfastError, InvalidArgument, MethodNotFound, ProtocolError, Unavailable
from ...framing import LengthPrefixed
from ...net.trust import TlsConfig
from .calls import Target
from .plan import Plan
from .run import Progress
from .tally import Measured

MESSAGE_MAX_BYTES = 256 * 1024 * 1024


class Tls(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a TlsConfig that a client has, as it travels."""

    trust: str
    certificate: str
    key: str
    key_password: str | None
    server_name: str

    @classmethod
    def of(cls, config: TlsConfig) -> Tls:
        """Return the client's part of a configuration."""
        return cls(
            trust=os.fspath(config.trust),
            certificate=os.fspath(config.certificate),
            key=os.fspath(config.key),
            key_password=config.key_password,
            server_name=config.server_name,
        )

    def config(self) -> TlsConfig:
        """Return the configuration again."""
        return TlsConfig(
            trust=self.trust, certificate=self.certificate, key=self.key, key_password=self.key_password, server_name=self.server_name
        )


class Job(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What a process is to do. Either `target` or `scenario` (the path of a file) is given."""

    address: str
    plan: Plan
    process: int = 0
    target: Target | None = None
    scenario: str | None = None
    tls: Tls | None = None
    insecure: bool = False


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The process has its connections."""


class Start(msgspec.Struct, frozen=True, tag=True):
    """Begin at that moment of the monotonic clock, which is one for all processes of a machine."""

    at: float


class Stop(msgspec.Struct, frozen=True, tag=True):
    """End early, and say what was counted."""


class Finished(msgspec.Struct, frozen=True, tag=True):
    """What the process counted."""

    measured: Measured


class Failed(msgspec.Struct, frozen=True, tag=True):
    """The process cannot do its job."""

    kind: str
    message: str


FromParent: TypeAlias = Job | Start | Stop
FromProcess: TypeAlias = Ready | Progress | Finished | Failed

_to_process = msgspec.msgpack.Decoder(FromParent)
_to_parent = msgspec.msgpack.Decoder(FromProcess)
_KINDS: dict[str, type[HoldfastError]] = {
    kind.__name__: kind for kind in (ConfigError, InvalidArgument, MethodNotFound, ProtocolError, Unavailable)
}


def make_framing() -> LengthPrefixed:
    """Return what splits one direction into messages."""
    return LengthPrefixed(4, max_bytes=MESSAGE_MAX_BYTES)


def encode(message: FromParent | FromProcess) -> bytes:
    """Return a message behind its length."""
    return make_framing().encode(msgspec.msgpack.encode(message))


def read_by_process(data: bytes) -> FromParent:
    """Return a message from the parent."""
    message: FromParent = _to_process.decode(data)
    return message


def read_by_parent(data: bytes) -> FromProcess:
    """Return a message from a process."""
    message: FromProcess = _to_parent.decode(data)
    return message


def failure(error: HoldfastError) -> Failed:
    """What to say of an error that ends the job. One that means nobody answered in time is told as Unavailable."""
    unreachable = error.code == "deadline_exceeded"
    return Failed("Unavailable" if unreachable else type(error).__name__, f"{error}")


def error_of(failed: Failed) -> HoldfastError:
    """The error that a process told."""
    return _KINDS.get(failed.kind, HoldfastError)(failed.message)
