"""Weather: the same for the same seed, within what may fail, over when it says, and different from seed to seed as swarms are."""

from __future__ import annotations

from collections import Counter

import pytest

from holdfast.errors import ConfigError
from holdfast.sim.climate import HOST_INCIDENTS, LINK_INCIDENTS, USUAL, Climate, units
from holdfast.sim.faults import KINDS, Fault, FaultPlan
from holdfast.sim.options import WorldOptions

SEEDS = range(300)
EVERYTHING = Climate(hosts=("a", "b"), links=(("a", "b"), ("b", "c")), kinds=LINK_INCIDENTS + HOST_INCIDENTS, calm_at_s=8.0)
MENDED = {"partition": "repair", "hold": "release", "kill": "restart", "power_loss": "restart"}


def kinds_of(plan: FaultPlan) -> frozenset[str]:
    return frozenset(each.kind for each in plan)


def test_the_weather_of_a_seed_is_always_the_same() -> None:
    assert [EVERYTHING.draw(seed) for seed in SEEDS] == [EVERYTHING.draw(seed) for seed in SEEDS]
    assert EVERYTHING.draw(7) != EVERYTHING.draw(8)


def test_faults_come_in_order_between_the_beginning_and_the_calm_on_what_may_fail() -> None:
    for seed in SEEDS:
        plan = EVERYTHING.draw(seed)
        times = [each.at_s for each in plan]
        assert times == sorted(times)
        assert all(EVERYTHING.begin_s <= at_s <= EVERYTHING.calm_at_s for at_s in times)
        for each in plan:
            target_is, arguments = KINDS[each.kind]
            assert len(each.args) <= len(arguments)
            assert each.target in (("a", "b", "c") if target_is == "hosts" else ("a", "b"))


def test_whatever_breaks_is_mended_by_the_calm() -> None:
    for seed in SEEDS:
        plan = EVERYTHING.draw(seed)
        broken: Counter[str] = Counter()
        for each in plan:
            if each.kind in MENDED:
                broken[MENDED[each.kind], each.target, str(each.args[:1])] += 1
            elif each.kind in MENDED.values():
                broken[each.kind, each.target, str(each.args[:1])] -= 1
            elif each.kind in ("stall", "pause"):
                assert each.at_s + float(each.args[0]) <= EVERYTHING.calm_at_s + 1e-9
        assert not +broken
        drifts = {each.target: each.args for each in plan if each.kind == "clock_drift"}
        assert all(rate == (1.0,) for rate in drifts.values())


def test_a_swarm_has_calm_worlds_narrow_ones_and_broad_ones_and_gaps_of_every_size() -> None:
    plans = [EVERYTHING.draw(seed) for seed in SEEDS]
    assert 3 <= sum(not plan.faults for plan in plans) <= 40
    assert len({kinds_of(plan) for plan in plans}) > 100
    sizes = [len(plan) for plan in plans if plan.faults]
    assert min(sizes) <= 4
    assert max(sizes) >= 150
    for kind in ("partition", "hold", "reset", "kill", "power_loss", "stall", "pause", "clock_jump", "clock_drift", "descriptors"):
        share = sum(kind in kinds_of(plan) for plan in plans) / len(plans)
        assert 0.2 < share < 0.8, kind


def test_only_what_was_given_may_fail() -> None:
    machines = [Climate(hosts=("a",)).draw(seed) for seed in SEEDS]
    networks = [Climate(links=(("a", "b"),)).draw(seed) for seed in SEEDS]
    one = [Climate(hosts=("a",), kinds=("kill",)).draw(seed) for seed in SEEDS]
    assert not {"partition", "hold", "reset"} & {kind for plan in machines for kind in kinds_of(plan)}
    assert {kind for plan in networks for kind in kinds_of(plan)} == {"partition", "repair", "hold", "release", "reset"}
    assert {kind for plan in one for kind in kinds_of(plan)} == {"kill", "restart"}
    assert "descriptors" not in USUAL


def test_the_physics_differ_from_seed_to_seed_unless_they_may_not() -> None:
    options = WorldOptions(descriptors=64)
    drawn = [EVERYTHING.weather(seed, options) for seed in SEEDS]
    assert drawn[3] == EVERYTHING.weather(3, options)
    latencies = [each.latency_s / options.latency_s for each in drawn]
    assert min(latencies) < 0.2
    assert max(latencies) > 10
    assert any(each.stall_chance for each in drawn)
    assert {each.descriptors for each in drawn} == {64}
    assert Climate(hosts=("a",), physics=False).weather(3, options) is options


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing may fail"),
        ({"hosts": ("a",), "kinds": ("partition",)}, "nothing may fail"),
        ({"hosts": ("a",), "kinds": ("earthquake",)}, "there is no incident 'earthquake'; there are partition, one_way"),
        ({"hosts": "server"}, "with the commas"),
        ({"links": ("ab", "cd")}, "with the commas"),
        ({"hosts": ("a",), "begin_s": 5.0, "calm_at_s": 5.0}, "expected the calm after the beginning"),
    ],
)
def test_a_climate_that_makes_no_sense_says_so(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Climate(**arguments)  # type: ignore[arg-type]


def test_what_mends_goes_with_what_it_mends() -> None:
    faults = (
        Fault(1, "partition", "a", ("b",)),
        Fault(2, "kill", "a"),
        Fault(3, "partition", "a", ("b", True)),
        Fault(4, "repair", "a", ("b",)),
        Fault(5, "repair", "a", ("c",)),
        Fault(6, "reset", "a", ("b",)),
        Fault(7, "restart", "a"),
        Fault(8, "repair", "a", ("b",)),
        Fault(9, "kill", "b"),
    )
    assert units(faults) == [(0, 3), (1, 6), (2, 7), (4,), (5,), (8,)]


def test_every_fault_is_in_one_unit() -> None:
    for seed in SEEDS:
        faults = EVERYTHING.draw(seed).faults
        assert sorted(number for unit in units(faults) for number in unit) == list(range(len(faults)))
        assert all(len(unit) == 2 for unit in units(faults) if faults[unit[0]].kind in MENDED)
