"""What can be asked of the sockets under a link, as values that were checked when they were made.

Owns: the options of listeners and of connecting, their defaults, and their ranges. What may never happen here: a socket; an option that
means something else on another system (what a system has not is left alone there, and missing from what is read back).
"""

from __future__ import annotations

import msgspec

from ..errors import ConfigError

INT_MAX = 2**31 - 1


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What a stream socket is set up with. Unix sockets have buffers only.

    Attributes:
        nodelay: send small writes at once (TCP_NODELAY). We collect writes ourselves; Nagle would add 40 ms.
        keepalive: have the kernel ask a silent peer whether it is there. It notices a host that vanished where nobody writes.
        keepalive_idle_s, keepalive_interval_s, keepalive_count: after how much silence, how often, and how often in vain.
        user_timeout_s: how long sent bytes may go unacknowledged (TCP_USER_TIMEOUT; Linux). 0 leaves the kernel's quarter of an hour.
        send_buffer_bytes, receive_buffer_bytes: of the kernel; None lets it size them by itself, which it does well.
    Raises: ConfigError naming the option that makes no sense.
    """

    nodelay: bool = True
    keepalive: bool = True
    keepalive_idle_s: int = 30
    keepalive_interval_s: int = 10
    keepalive_count: int = 3
    user_timeout_s: float = 60.0
    send_buffer_bytes: int | None = None
    receive_buffer_bytes: int | None = None

    def __post_init__(self) -> None:
        whole(self, "keepalive_idle_s", 1, 32_767)
        whole(self, "keepalive_interval_s", 1, 32_767)
        whole(self, "keepalive_count", 1, 127)
        seconds(self, "user_timeout_s", 0, INT_MAX // 1000)
        for name in ("send_buffer_bytes", "receive_buffer_bytes"):
            if getattr(self, name) is not None:
                whole(self, name, 1024, 1024**3)


class ListenOptions(StreamOptions, frozen=True, kw_only=True):
    """How a listener accepts.

    Attributes:
        backlog: connections the kernel holds for us while we are busy; its own limit may be lower.
        accepts_per_turn: how many are taken in one turn of the loop, so that a flood of them does not starve those that are there.
        reuse_port: let other processes listen at the same port; the kernel spreads connections over them.
        unix_mode: permissions of a socket file. Whoever may write it may connect.
        connections_max: connections open at once. None is what the process's descriptors allow, for all its listeners together: their limit
            less 256, or half of it where that is more.
        connections_per_prefix_max: of them from one network: an IPv4 address, an IPv6 /64. None is 256, and none for loopback and Unix.
    Raises: ConfigError naming the option that makes no sense.
    """

    backlog: int = 1024
    accepts_per_turn: int = 64
    reuse_port: bool = False
    unix_mode: int = 0o600
    connections_max: int | None = None
    connections_per_prefix_max: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self, "backlog", 1, 65_535)
        whole(self, "accepts_per_turn", 1, 10_000)
        if not isinstance(self.unix_mode, int) or not 0 <= self.unix_mode <= 0o777:
            raise ConfigError(f"unix_mode={self.unix_mode!r}: expected permissions from 0o000 to 0o777, such as 0o600")
        for name in ("connections_max", "connections_per_prefix_max"):
            if getattr(self, name) is not None:
                whole(self, name, 1, INT_MAX)


class ConnectOptions(StreamOptions, frozen=True, kw_only=True):
    """How a connection is made.

    Attributes:
        stagger_s: how long one address of a name is tried alone before the next joins in (RFC 8305, 5).
        dns_timeout_s: how long a name may take to resolve.
    Raises: ConfigError naming the option that makes no sense.
    """

    stagger_s: float = 0.25
    dns_timeout_s: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        seconds(self, "stagger_s", 0.01, 10)
        seconds(self, "dns_timeout_s", 0.001, 3600)


def whole(options: msgspec.Struct, name: str, least: int, most: int) -> None:
    """Raise ConfigError unless the option is a whole number in its range."""
    value = getattr(options, name)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"{name}={value!r}: expected a whole number from {least} to {most}")


def seconds(options: msgspec.Struct, name: str, least: float, most: float) -> None:
    """Raise ConfigError unless the option is a number of seconds in its range."""
    value = getattr(options, name)
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise ConfigError(f"{name}={value!r}: expected {least:g} to {most:g} seconds")
