"""What makes no sense is refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.errors import ConfigError
from holdfast.sim import WorldOptions


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"callback_s": 0.0}, "callback_s=0.0: expected more than 0, or a busy loop would hold virtual time for ever"),
        ({"stall_chance": 1.5}, "stall_chance=1.5: expected a chance between 0 and 1"),
        ({"slice_chance": -0.1}, "slice_chance=-0.1: expected a chance between 0 and 1"),
        ({"descriptors": 0}, "descriptors=0: expected at least 1"),
        ({"executor_workers": 0}, "executor_workers=0: expected at least 1"),
        ({"latency_s": -1.0}, "latency_s=-1.0: expected 0 or more seconds"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        WorldOptions(**options)
    assert says in str(raised.value)
