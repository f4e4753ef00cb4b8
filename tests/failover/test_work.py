"""What a node does for a call: the same in every process, written down before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.failover import work
from bench.failover.work import Failing, Plan, Work, from_environment, may_run_twice, set_mode

IDS = [(client << 32) + sequence for client in range(4) for sequence in range(500)]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A node's plan, with the file that says how it behaves."""
    (tmp_path / "mode").write_bytes(bytes([work.NORMAL]))
    return Plan(5.0, 50.0, str(tmp_path / "log"), str(tmp_path / "mode"))


def logged(plan: Plan) -> list[int]:
    return [int(line.split()[0]) for line in Path(plan.log).read_text().splitlines()]


def test_a_call_takes_what_its_number_says_and_its_mean_is_as_stated(plan: Plan) -> None:
    taken = [plan.takes_s(call_id) for call_id in IDS]
    assert taken == [plan.takes_s(call_id) for call_id in IDS]
    assert 0.005 <= min(taken) < 0.010
    assert 0.049 < max(taken) <= 0.050
    assert sum(taken) / len(taken) == pytest.approx(plan.mean_s, rel=0.03)


def test_half_of_the_calls_may_run_twice() -> None:
    assert sum(map(may_run_twice, IDS)) / len(IDS) == pytest.approx(0.5, abs=0.05)


def test_a_call_is_in_the_log_before_it_is_worked_on_and_each_life_of_a_node_appends(plan: Plan) -> None:
    for call_id in (7, 8):
        life = Work(plan)
        life.begin(call_id)
        assert logged(plan)[-1] == call_id  # read while the node still has it open: what a kill leaves
        life.close()
    assert logged(plan) == [7, 8]


def test_a_node_behaves_as_it_is_told_from_its_next_call_on(plan: Plan) -> None:
    node = Work(plan)
    normal_s = node.begin(1)
    set_mode(Path(plan.mode), work.SLOW)
    assert node.begin(1) == pytest.approx(work.SLOWER * normal_s)
    set_mode(Path(plan.mode), work.FAILING)
    with pytest.raises(Failing):
        node.begin(2)
    set_mode(Path(plan.mode), work.NORMAL)
    assert node.begin(1) == normal_s
    assert logged(plan) == [1, 1, 2, 1]
    node.close()


def test_a_node_finds_its_plan_in_its_environment_or_says_how_it_is_started(plan: Plan) -> None:
    node = from_environment(plan.environment())
    assert node.begin(3) == plan.takes_s(3)
    node.close()
    with pytest.raises(SystemExit, match=r"python -m bench\.failover"):
        from_environment({})
