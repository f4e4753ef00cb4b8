"""From FILE::NAME to a scenario, and every way in which that does not work, in one line each."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.sim.loading import chosen, scenarios_in

HEAD = "from holdfast.sim import Climate, Scenario, World, sim_test\n"
TWO = (
    HEAD
    + """
@sim_test(seeds=3)
async def test_one(world: World) -> None: ...

@sim_test(seeds=3, climate=Climate(hosts=("a",)))
async def test_two(world: World) -> None: ...

another_name = test_one
"""
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test has a folder of its own, and leaves no module and no path behind."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = dict(sys.modules)
    yield
    for name in [name for name in sys.modules if name not in before]:
        del sys.modules[name]


def write(path: str, text: str) -> str:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)
    return path


def test_the_scenarios_of_a_file_in_its_order_each_once() -> None:
    path = write("shop.py", TWO)
    assert list(scenarios_in(path)) == ["test_one", "test_two"]
    assert [each.place for each in chosen(path)] == ["shop.py::test_one", "shop.py::test_two"]
    assert [each.name for each in chosen("shop.py::test_two")] == ["test_two"]


def test_a_file_is_imported_once() -> None:
    path = write("shop.py", TWO)
    assert scenarios_in(path)["test_one"].body is scenarios_in(path)["test_one"].body


def test_a_file_finds_what_lies_beside_it_and_in_the_current_folder() -> None:
    write("root.py", "X = 1\n")
    write("deep/beside.py", "Y = 2\n")
    path = write("deep/sim_shop.py", TWO + "import root\nimport beside\nfrom .beside import Y\nassert root.X + Y == 3\n")
    assert len(scenarios_in(path)) == 2


def test_a_scenario_may_be_made_by_hand() -> None:
    path = write("shop.py", HEAD + "async def body(world: World) -> None: ...\nmine = Scenario(name='by hand', body=body)\n")
    assert [each.place for each in chosen(path)] == ["shop.py::by hand"]


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (TWO, "no.py", "there is no file no.py"),
        (TWO, "shop.py::test_three", "shop.py has no scenario 'test_three'; it has test_one, test_two"),
        ("x = 1\n", "shop.py", r"shop.py has no scenario; put @sim_test\(seeds=200\) over"),
        ("x = 1\nimport not_there_at_all\n", "shop.py", r"No module named 'not_there_at_all' \(line 2: import not_there_at_all\)"),
        ("def (:\n", "shop.py", "shop.py cannot be imported: SyntaxError"),
        (
            HEAD + "@sim_test()\nasync def test_x(world: World, tmp_path: object) -> None: ...\n",
            "shop.py",
            r"the scenarios of shop.py \(test_x\) need fixtures, which pytest has: run pytest shop.py",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(text: str, place: str, message: str) -> None:
    write("shop.py", text)
    with pytest.raises(ConfigError, match=message):
        chosen(place)


def test_a_file_that_failed_to_import_is_imported_anew_when_it_is_mended() -> None:
    path = write("shop.py", "import not_there_at_all\n")
    with pytest.raises(ConfigError):
        scenarios_in(path)
    write(path, TWO)
    assert len(scenarios_in(path)) == 2
