"""A case and its outcome: the same each time, complete, with a signature that tells one failure from another."""

from __future__ import annotations

import asyncio
import re

import msgspec
import pytest

from holdfast.sim.climate import Climate
from holdfast.sim.history import InvariantBroken
from holdfast.sim.scenario import Case, Outcome, Scenario, as_scenario, operations, place_of
from holdfast.sim.world import World

from . import campaigns


async def waits() -> None:
    await asyncio.Event().wait()


async def with_faults(world: World) -> None:
    """A server that is killed and cut off; it breaks when a cut and enough operations come together."""
    server = world.host("server")
    server.start(waits)
    world.host("client").start(waits)
    todo = operations(world, list(range(12)), "c")
    await asyncio.sleep(3.0)
    world.reached("the end")
    assert len(todo) < 5, f"{len(todo)} operations"


STORMY = Scenario(name="with_faults", body=with_faults, climate=Climate(hosts=("server",), links=(("server", "client"),), calm_at_s=2.0))
SEEDS = range(12)


def test_a_case_run_again_is_the_same_to_the_byte() -> None:
    assert [STORMY.run(Case(seed=seed)) for seed in SEEDS] == [STORMY.run(Case(seed=seed)) for seed in SEEDS]
    assert len({STORMY.run(Case(seed=seed)).digest for seed in SEEDS}) == len(SEEDS)


def test_an_outcome_has_its_case_written_out_and_that_case_gives_the_outcome_again() -> None:
    with_plan = 0
    for seed in SEEDS:
        outcome = STORMY.run(Case(seed=seed))
        assert outcome.case.plan is not None
        with_plan += len(outcome.case.plan) > 0
        again = STORMY.run(outcome.case)
        assert again == outcome
    assert with_plan >= 8


def test_a_case_and_an_outcome_go_through_json() -> None:
    outcome = STORMY.run(Case(seed=3))
    assert msgspec.json.decode(msgspec.json.encode(outcome), type=Outcome) == outcome
    assert msgspec.json.decode(msgspec.json.encode(outcome.case), type=Case) == outcome.case


def test_a_case_may_do_a_part_of_the_operations() -> None:
    outcome = STORMY.run(Case(seed=1))
    assert outcome.failure is not None
    assert [each.number for each in outcome.operations] == list(range(12))
    some = STORMY.run(Case(seed=1, plan=outcome.case.plan, kept=(("c", 3), ("c", 7), ("d", 1))))
    assert [each.text for each in some.operations] == ["3", "7"]
    assert some.failure is None
    assert some.sometimes == {"the end": 1}
    assert some.events_of_case == len(some.case.plan or ()) + 2


def test_calm_physics_are_another_world_with_the_same_faults() -> None:
    outcome = STORMY.run(Case(seed=2))
    calm = STORMY.run(Case(seed=2, plan=outcome.case.plan, calm=True))
    assert calm.digest != outcome.digest
    assert (calm.weather, outcome.weather.startswith("latency ")) == ("", True)


def test_a_world_no_campaign_runs_does_all_operations() -> None:
    from holdfast.sim.world import run_world

    seen: list[int] = []

    async def body(world: World) -> None:
        seen.extend(operations(world, [1, 2, 3]))

    assert run_world(body, 1).failure is None
    assert seen == [1, 2, 3]


async def never_ends(world: World) -> None:
    world.host("a")
    await asyncio.sleep(1e6)


def test_what_does_not_end_once_the_faults_are_over_has_not_converged() -> None:
    calm = Scenario(name="n", body=never_ends, within_s=30).run(Case(seed=1))
    assert calm.failure is not None
    assert (calm.failure.signature, calm.failure.message) == (
        "converges",
        "converges: the scenario had not ended 30 s; if it may take longer, say so with within_s",
    )
    assert calm.virtual_s == pytest.approx(30, abs=1)
    stormy = Scenario(name="n", body=never_ends, within_s=30, climate=Climate(hosts=("a",), calm_at_s=5))
    outcome = stormy.run(Case(seed=1))
    assert outcome.failure is not None
    assert outcome.failure.message == (
        "converges: the scenario had not ended 30 s after the faults had stopped (at 5 s); if it may take longer, say so with within_s"
    )
    assert "the scenario waited at test_scenario.py:" in outcome.failure.details
    assert " in never_ends\n" in outcome.failure.details
    assert outcome.virtual_s == pytest.approx(35, abs=1)


async def hangs_over_a_dead_server(world: World) -> None:
    async def serve() -> None:
        await asyncio.sleep(1)
        raise RuntimeError("no room")

    world.host("office").start(serve)
    world.host("ada").start(waits)
    await asyncio.Event().wait()


def test_a_server_that_raised_is_the_first_thing_said() -> None:
    failure = Scenario(name="n", body=hangs_over_a_dead_server, within_s=30).run(Case(seed=1)).failure
    assert failure is not None
    assert failure.signature == "converges"
    assert re.match(
        r"converges: office: program 'serve' ended with RuntimeError: no room at test_scenario.py:\d+ in serve; the scenario had not ended",
        failure.message,
    )
    assert re.search(r"pending: ada: waits at test_scenario.py:\d+ in waits\n", failure.details)


async def dies_at_once(world: World) -> None:
    async def serve() -> None:
        raise RuntimeError("no port")

    world.host("office").start(serve)
    await asyncio.Event().wait()


async def expects_it_to(world: World) -> None:
    async def serve() -> None:
        raise RuntimeError("no port")

    process = world.host("office").start(serve)
    await asyncio.sleep(0.5)
    with pytest.raises(RuntimeError, match="no port"):
        await process
    await asyncio.sleep(10)


async def killed_before(world: World) -> None:
    world.host("ada").start(waits)
    world.host("ada").kill()
    await dies_at_once(world)


def test_a_world_whose_program_raises_at_once_ends_with_its_error_unless_it_is_looked_at_or_a_fault_came_first() -> None:
    outcome = Scenario(name="n", body=dies_at_once).run(Case(seed=1))
    assert outcome.failure is not None
    assert outcome.failure.signature.startswith("RuntimeError at test_scenario.py:")
    assert outcome.failure.message == "RuntimeError: no port"
    assert "program 'serve' of host 'office' raised at once, before any fault" in outcome.failure.details
    assert outcome.virtual_s < 2
    assert Scenario(name="n", body=expects_it_to).run(Case(seed=1)).failure is None
    late = Scenario(name="n", body=killed_before).run(Case(seed=1)).failure
    assert late is not None
    assert late.signature == "converges"


async def makes_office_and_ada(world: World) -> None:
    world.host("office").start(waits)
    world.host("ada").start(waits)
    await asyncio.sleep(20)


@pytest.mark.parametrize(
    ("climate", "argument"),
    [(Climate(links=(("offce", "ada"),), kinds=("reset",)), "links"), (Climate(hosts=("offce",), kinds=("kill",)), "hosts")],
)
def test_a_climate_that_names_a_host_nobody_made_is_said_to(climate: Climate, argument: str) -> None:
    outcomes = (Scenario(name="n", body=makes_office_and_ada, climate=climate).run(Case(seed=seed)) for seed in range(10))
    failure = next(each.failure for each in outcomes if each.failure is not None)
    assert re.match(
        rf"ConfigError: climate: {argument} names 'offce', but the scenario made office, ada \(until [\d.]+ s\)", failure.message
    )


async def own_timeout(world: World) -> None:
    async with asyncio.timeout(1):
        await asyncio.sleep(2)


async def named(world: World) -> None:
    raise InvariantBroken("all is well", f"it is not, in {world.seed}")


async def shows_an_address(world: World) -> None:
    raise ValueError(f"not {object()!r}")


@pytest.mark.parametrize(
    ("body", "signature", "message"),
    [
        (own_timeout, "TimeoutError at test_scenario.py:", "TimeoutError"),
        (campaigns.bare_assert, "AssertionError at campaigns.py:", "assert failed: assert world.seed == -1"),
        (shows_an_address, "ValueError at test_scenario.py:", "ValueError: not <object object at 0x…>"),
        (named, "all is well", "all is well: it is not, in 5"),
    ],
)
def test_a_failure_has_a_signature_that_is_the_same_for_every_seed_and_a_message_of_its_own(
    body: object, signature: str, message: str
) -> None:
    five, six = (as_scenario(body).run(Case(seed=seed)).failure for seed in (5, 6))
    assert five is not None
    assert six is not None
    assert five.signature == six.signature
    assert five.signature.startswith(signature)
    assert five.message == message


def test_a_function_at_the_top_of_a_file_has_a_place() -> None:
    assert place_of(named).endswith("tests/sim/test_scenario.py::named")
    assert place_of(lambda: None) == ""
