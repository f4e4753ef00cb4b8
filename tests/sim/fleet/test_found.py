"""What the campaign found in holdfast and in itself, as worlds that are run again: none may come back.

What is small enough to be shown by itself stands next to its like: in `tests/balance`, `tests/policy`, and `test_truth.py` here.
"""

from __future__ import annotations

import pytest

from holdfast.sim import Case

from .campaign import fleet

FOUND = {
    "drained: a node died in the storm, nobody had noticed, and the call that went there was lost while another node drained": 840,
    "deadline: a hundred tasks of the campaign that were done kept the host busy": 20,
    "healthy-serves: the second of two attempts was made the probe of the node that had refused the first": 1637,
}
"""How a world failed, and its seed. The last was the client's; the others were the campaign's own, and are other worlds by now."""


@pytest.mark.parametrize("seed", FOUND.values(), ids=[f"seed {seed}" for seed in FOUND.values()])
def test_a_world_that_failed_holds(seed: int) -> None:
    outcome = fleet.run(Case(seed=seed))
    assert outcome.failure is None, outcome.failure.message
