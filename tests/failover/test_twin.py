"""`make failover` in twenty seconds, with real processes: nodes are killed, frozen, cut off and restarted under load.

Judges counts, from the nodes' own logs. What may never happen here: a judgement about time.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.failover import script
from bench.failover.accounts import Accounts, read
from bench.failover.contenders import CONTENDERS
from bench.failover.scene import Scale, Scene

SCALE = Scale(nodes=3, clients=2, rate=500.0, streams=4)
PHASES = (
    script.calm(1),
    script.kill(0, gone_s=1, seconds=3),
    script.freeze(1, frozen_s=2, seconds=3),
    script.reset(2, refused_s=0.5, seconds=1.5),
    script.restart(0, seconds=4),
)


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_no_call_that_may_be_retried_fails_and_no_other_runs_twice(tmp_path: Path) -> None:
    name = "holdfast"
    told: list[str] = []
    with Scene(CONTENDERS[name], tmp_path, SCALE) as scene:
        stretches = script.run(scene, PHASES, told.append, warm_s=0.5, pause_s=0.5)
        logs = [scene.log_path(number) for number in range(SCALE.nodes)]
        written = read(map(scene.records_path, range(SCALE.clients)), logs)
    accounts = Accounts(name, written, streams=True)
    rows = accounts.rows(stretches)

    assert [row.phase for row in rows] == ["calm", "kill", "freeze", "reset", "restart", "between"]
    assert all(row.calls for row in rows)
    assert len(told) == sum(len(phase.steps) for phase in PHASES)
    assert accounts.unlogged() == 0
    assert {execution.node for execution in written.executions} == {0, 1, 2}

    assert sum(row.failed_idempotent for row in rows) == 0, accounts.reasons()
    assert sum(row.twice for row in rows) == 0
    assert sum(row.wrongly_not_executed for row in rows) == 0
    assert rows[0].failed == rows[0].unknown == 0, accounts.reasons()
