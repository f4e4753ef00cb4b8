"""Faults are data: they travel as JSON, and any part of a plan is a plan."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import ConfigError
from holdfast.sim import Fault, FaultPlan
from holdfast.sim.faults import KINDS
from holdfast.sim.happenings import Happenings
from holdfast.sim.machine import Host

faults = st.builds(
    Fault,
    at_s=st.floats(0, 1e6),
    kind=st.sampled_from(sorted(KINDS)),
    target=st.sampled_from(["a", "b", "a,b"]),
    args=st.tuples(st.one_of(st.text(), st.booleans(), st.integers(0, 2**31), st.floats(0, 1e6))),
    call=st.none() | st.integers(0, 100),
)


@given(st.lists(faults), st.booleans())
def test_a_plan_is_the_same_after_json(these: list[Fault], recorded: bool) -> None:
    plan = FaultPlan(tuple(these), recorded)
    assert FaultPlan.from_json(plan.to_json()) == plan


@given(st.lists(faults, max_size=8), st.data())
def test_a_part_of_a_plan_keeps_order_and_kind_of_plan(these: list[Fault], data: st.DataObject) -> None:
    plan = FaultPlan(tuple(these), recorded=True)
    keep = sorted(data.draw(st.sets(st.integers(0, max(0, len(these) - 1)))))
    part = plan.only(keep)
    assert part.recorded
    assert list(part) == [these[n] for n in keep if n < len(these)]


def test_of_puts_faults_in_order_and_keeps_those_of_one_time_as_they_come() -> None:
    late, first, second = Fault(2.0, "kill", "a"), Fault(1.0, "kill", "b"), Fault(1.0, "restart", "b")
    plan = FaultPlan.of([late, first, second])
    assert (list(plan), len(plan), plan[0], plan[1:]) == ([first, second, late], 3, first, (second, late))


def test_a_kind_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="fault 'flood' at 1 s: expected one of partition, "):
        FaultPlan((Fault(1.0, "flood", "a"),))
    with pytest.raises(msgspec.ValidationError):
        FaultPlan.from_json(b'{"faults": [{"at_s": "soon"}]}')


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_somebody_who_does_it(kind: str) -> None:
    assert hasattr(Happenings if KINDS[kind][0] == "hosts" else Host, f"_do_{kind}")


def test_a_fault_reads_as_a_line() -> None:
    assert str(Fault(1.5, "partition", "a", ("b", True), 3)) == "1.500000 partition a b True"
