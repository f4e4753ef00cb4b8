"""What may be set, and what is refused: each field that has a range says which when it is left."""

from __future__ import annotations

from typing import Any

import pytest

import holdfast
from holdfast.errors import ConfigError
from holdfast.wire import Settings

BAD: list[tuple[Any, dict[str, Any], str]] = [
    (holdfast.ServerConfig, {"handlers_max": 0}, "handlers_max=0 must be at least 1"),
    (holdfast.ServerConfig, {"threads_max": 0}, "threads_max=0"),
    (holdfast.ServerConfig, {"threads_queue_max": -1}, "threads_queue_max=-1"),
    (holdfast.ServerConfig, {"drain_s": -1.0}, "drain_s=-1.0 must be 0 or more"),
    (holdfast.ServerConfig, {"drain_s": float("nan")}, "drain_s=nan"),
    (holdfast.ServerConfig, {"cancel_grace_s": -0.1}, "cancel_grace_s=-0.1"),
    (holdfast.ServerConfig, {"cancels_per_s": 0.0}, "cancels_per_s=0.0 must be at least 0.1"),
    (holdfast.ServerConfig, {"pings_per_s": float("inf")}, "pings_per_s=inf"),
    (holdfast.ServerConfig, {"checksum": "sometimes"}, "one of auto, always, never"),
    (holdfast.ServerConfig, {"assembly_max_bytes": 1024}, "must hold one message"),
    (holdfast.ClientConfig, {"deadline_s": 0.0}, "deadline_s=0.0 must be above 0"),
    (holdfast.ClientConfig, {"checksum": ""}, "one of auto, always, never"),
    (holdfast.ClientConfig, {"assembly_max_bytes": 1024}, "must hold one message"),
]


@pytest.mark.parametrize(("kind", "fields", "message"), BAD, ids=[f"{kind.__name__} {fields}" for kind, fields, _ in BAD])
def test_what_makes_no_sense_is_refused_by_name(kind: Any, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**fields)


def test_small_limits_that_fit_one_another_are_taken() -> None:
    wire = Settings(message_max_bytes=1024)
    assert holdfast.ServerConfig(wire=wire, assembly_max_bytes=1024, cancels_per_s=0.1).wire is wire
    assert holdfast.ClientConfig(wire=wire, assembly_max_bytes=1024, deadline_s=None).deadline_s is None
