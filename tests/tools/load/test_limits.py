"""When the generator is the limit, it says so, and why."""

from __future__ import annotations

from typing import Any

import pytest

from holdfast.tools.load.limits import limits
from holdfast.tools.load.plan import Plan
from holdfast.tools.load.run import LATE_S
from holdfast.tools.load.tally import Measured

ONE, FOUR = Plan(rate=1000), Plan(rate=1000, processes=4, connections=4)


@pytest.mark.parametrize(
    ("given", "plan", "why"),
    [
        ({"sent": 1000, "late": 10, "late_max_s": 0.5, "cpu": (0.89,), "lag_max_s": 0.05}, ONE, ""),
        ({}, ONE, ""),
        ({"cpu": (0.97,)}, ONE, "the client process used 97% of a core"),
        ({"cpu": (0.2, 0.95, 0.99, 0.1)}, FOUR, "2 of 4 client processes used 99% of a core"),
        (
            {"sent": 1000, "late": 11, "late_max_s": 0.042},
            ONE,
            f"1.1% of the calls left more than {LATE_S * 1000:g} ms late, at worst 42 ms",
        ),
        ({"lag_max_s": 0.3}, ONE, "a client's loop stood still for 300 ms"),
        ({"cpu": (1.0,), "lag_max_s": 0.3}, ONE, "the client process used 100% of a core; a client's loop stood still for 300 ms"),
    ],
)
def test_limits(given: dict[str, Any], plan: Plan, why: str) -> None:
    assert limits(Measured(**given), plan) == why
