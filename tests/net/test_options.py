"""Options are values, and what makes no sense is refused when they are made, by name and with what to write."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.errors import ConfigError
from holdfast.net.options import ConnectOptions, ListenOptions, StreamOptions

BAD: list[tuple[type[StreamOptions], str, object, str]] = [
    (ListenOptions, "backlog", 0, "expected a whole number from 1 to 65535"),
    (ListenOptions, "backlog", 10.5, "whole number"),
    (ListenOptions, "backlog", True, "whole number"),
    (ListenOptions, "accepts_per_turn", 0, "from 1 to 10000"),
    (ListenOptions, "unix_mode", 0o1777, "expected permissions from 0o000 to 0o777"),
    (ListenOptions, "unix_mode", "0600", "expected permissions"),
    (ListenOptions, "connections_max", 0, "whole number from 1"),
    (ListenOptions, "connections_per_prefix_max", -1, "whole number from 1"),
    (ListenOptions, "keepalive_idle_s", 0, "from 1 to 32767"),
    (ConnectOptions, "keepalive_interval_s", 40_000, "from 1 to 32767"),
    (ConnectOptions, "keepalive_count", 128, "from 1 to 127"),
    (ConnectOptions, "user_timeout_s", -1, "expected 0 to 2.14748e"),
    (ConnectOptions, "user_timeout_s", float("nan"), "seconds"),
    (ConnectOptions, "send_buffer_bytes", 10, "from 1024"),
    (ConnectOptions, "receive_buffer_bytes", 2**31, "from 1024"),
    (ConnectOptions, "stagger_s", 0, "expected 0.01 to 10 seconds"),
    (ConnectOptions, "dns_timeout_s", "2", "seconds"),
]


@pytest.mark.parametrize(("kind", "name", "value", "said"), BAD, ids=lambda each: str(each)[:24])
def test_what_makes_no_sense_is_refused_by_name(kind: type[StreamOptions], name: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(**{name: value})
    assert str(caught.value).startswith(f"{name}={value!r}: ")
    assert said in str(caught.value)


def test_a_vanished_peer_is_noticed_within_a_minute_whether_we_wait_or_send() -> None:
    options = StreamOptions()
    assert options.keepalive_idle_s + options.keepalive_interval_s * options.keepalive_count == options.user_timeout_s == 60


def test_options_are_a_value() -> None:
    options = ListenOptions()
    with pytest.raises(AttributeError):
        options.backlog = 1  # type: ignore[misc]
    assert msgspec.structs.replace(options, backlog=7).backlog == 7
    with pytest.raises(ConfigError):
        msgspec.structs.replace(options, backlog=0)


def test_zero_leaves_the_user_timeout_to_the_kernel() -> None:
    assert ConnectOptions(user_timeout_s=0).user_timeout_s == 0
