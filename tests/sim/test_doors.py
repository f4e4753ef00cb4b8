"""`sim_test`: what the decorator makes, and what it says when a world fails."""

from __future__ import annotations

import inspect
from contextlib import nullcontext
from pathlib import Path

import pytest

from holdfast.sim import Case, Climate, Corpus, InvariantBroken, Scenario, World, explore, operations, sim_test
from holdfast.sim.doors import asked

seen: list[int] = []


@sim_test(seeds=5)
async def counts(world: World) -> None:
    """Count me."""
    seen.append(world.seed)


@sim_test(seeds=5, climate=Climate(hosts=("a",)), sometimes=("there",))
async def never_there(world: World) -> None: ...


@sim_test(seeds=20)
async def fails(world: World) -> None:
    for each in operations(world, ["first", "second", "third"], "client"):
        if each == "second" and world.seed == 7:
            raise InvariantBroken("no second", "there was one")


@sim_test(seeds=3)
async def with_fixtures(world: World, tmp_path: Path, greeting: str = "hello") -> None:
    assert tmp_path.name == "x"
    assert greeting == "hello"
    seen.append(world.seed)


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    seen.clear()
    monkeypatch.setattr(asked, "seeds", None)
    monkeypatch.setattr(asked, "replay", None)


def test_it_is_a_plain_function_that_runs_every_seed() -> None:
    assert not inspect.iscoroutinefunction(inspect.unwrap(counts))
    assert list(inspect.signature(counts).parameters) == []
    assert (counts.__name__, counts.__doc__) == ("counts", "Count me.")
    counts()
    assert list(dict.fromkeys(seen)) == [0, 1, 2, 3, 4]


def test_other_parameters_are_left_for_fixtures() -> None:
    assert list(inspect.signature(with_fixtures).parameters) == ["tmp_path", "greeting"]
    with_fixtures(tmp_path=Path("x"))
    assert list(dict.fromkeys(seen)) == [0, 1, 2]
    assert not hasattr(with_fixtures, "scenario")


def test_the_first_world_that_fails_fails_the_test_with_its_story(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "tests/test_x.py::fails (call)")
    with pytest.raises(InvariantBroken) as raised:
        fails()
    text = str(raised.value)
    assert raised.value.invariant == "no second"
    assert "fails: stopped at the 8th of 20 worlds" in text
    assert "FAIL seed 7: no second: there was one, at t=" in text
    assert "shrunk from 3 to 1 events" in text
    assert "  second\n" in text
    assert "replay: pytest tests/test_x.py::fails --sim-replay 7" in text
    assert 'raise InvariantBroken("no second", "there was one")' in text


def test_outside_of_pytest_the_command_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTEST_CURRENT_TEST")
    with pytest.raises(InvariantBroken, match=r"replay: holdfast sim \S*tests/sim/test_doors.py::fails --seed 7 --shrink"):
        fails()


def test_points_that_were_not_reached_fail_it_unless_fewer_worlds_were_asked_for() -> None:
    with pytest.raises(InvariantBroken, match="never reached: 'there' in 5 worlds"):
        never_there()
    asked.seeds = 4
    never_there()
    asked.seeds = 6
    with pytest.raises(InvariantBroken, match="never reached: 'there' in 6 worlds"):
        never_there()


def test_the_command_line_changes_how_many_or_which() -> None:
    asked.seeds = 2
    counts()
    assert list(dict.fromkeys(seen)) == [0, 1]
    seen.clear()
    asked.replay = 733
    counts()
    assert list(dict.fromkeys(seen)) == [733]


@sim_test(seeds=20)
async def speaks(world: World) -> None:
    for each in operations(world, ["first", "second", "third"], "client"):
        print("does", each)
        breakpoint()
        if each == "second" and world.seed == 7:
            raise InvariantBroken("no second", "there was one")


@pytest.mark.parametrize(("seed", "said"), [(7, ["does second"]), (8, ["does first", "does second", "does third"])])
def test_a_replay_shows_and_stops_in_the_world_it_tells_of_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, seed: int, said: list[str]
) -> None:
    stopped: list[bool] = []
    monkeypatch.setattr("sys.breakpointhook", lambda: stopped.append(True))
    asked.replay = seed
    with nullcontext() if seed == 8 else pytest.raises(InvariantBroken, match="shrunk from 3 to 1"):
        speaks()
    assert capsys.readouterr().out.splitlines() == said
    assert len(stopped) == len(said)


def test_a_corpus_beside_the_file_is_run_first(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    corpus = Corpus(path)
    corpus.add("kept", Case(seed=99), "once it failed")
    corpus.save()

    async def kept(world: World) -> None:
        seen.append(world.seed)

    sim_test(seeds=2, corpus=path)(kept)()
    assert list(dict.fromkeys(seen)) == [99, 0, 1]


def test_the_scenario_it_carries_can_be_explored() -> None:
    carried = counts.scenario  # type: ignore[attr-defined]
    assert isinstance(carried, Scenario)
    assert carried.place.endswith("test_doors.py::counts")
    assert explore(counts, seeds=3).seeds == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", ["not a coroutine", "no world", "a method"])
def test_what_cannot_be_a_scenario_is_refused_at_once(wrong: str) -> None:
    def plain(world: World) -> None: ...
    async def nothing() -> None: ...
    async def method(self: object, world: World) -> None: ...

    body = {"not a coroutine": plain, "no world": nothing, "a method": method}[wrong]
    with pytest.raises(TypeError, match="expected an `async def test_"):
        sim_test()(body)  # type: ignore[arg-type]
