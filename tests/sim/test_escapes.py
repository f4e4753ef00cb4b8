"""The errors of the simulation say what to do."""

from __future__ import annotations

import pytest

from holdfast.errors import HoldfastError
from holdfast.sim import Deadlock, Escape, Killed, Overrun, SimulationError


@pytest.mark.parametrize("error", [Deadlock, Escape, Killed, Overrun])
def test_each_is_a_simulation_error_and_not_for_retrying(error: type[SimulationError]) -> None:
    made = error("what to use instead")
    assert isinstance(made, SimulationError)
    assert isinstance(made, HoldfastError)
    assert (made.retry, made.executed, made.fault) == ("never", "no", "config")
    assert "what to use instead" in str(made)
