"""Scenario files: the shape, and one line for each way to get it wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.tools.load.scenario import load_scenario

TWO = "async def look(client, number): pass\nasync def buy(client, number): pass\n"


@pytest.fixture(autouse=True)
def path_is_put_back() -> Iterator[None]:
    before = list(sys.path)
    yield
    sys.path[:] = before
    sys.modules.pop("holdfast_scenario", None)


def written(tmp_path: Path, text: str) -> str:
    path = tmp_path / "mix.py"
    path.write_text(text, "utf-8")
    return str(path)


def test_a_mix_has_names_weights_and_functions(tmp_path: Path) -> None:
    parts = load_scenario(written(tmp_path, TWO + "mix = {look: 9, buy: 0.5}\n"))
    assert [(part.name, part.weight, part.function.__name__) for part in parts] == [("look", 9.0, "look"), ("buy", 0.5, "buy")]


def test_it_may_import_its_neighbours_and_use_types(tmp_path: Path) -> None:
    (tmp_path / "neighbour_of_a_mix.py").write_text("LIMIT = 3\n", "utf-8")
    text = (
        "from __future__ import annotations\nimport msgspec\nfrom holdfast import Client\nfrom neighbour_of_a_mix import LIMIT\n"
        "class Order(msgspec.Struct):\n    qty: int = LIMIT\n"
        "async def buy(client: Client, number: int) -> None:\n    Order()\nmix = {buy: LIMIT}\n"
    )
    (part,) = load_scenario(written(tmp_path, text))
    assert part.weight == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no mix; write mix = {function: weight, …}"),
        ("mix = {}", "has no mix"),
        ("mix = [1]", "has no mix"),
        ("def look(client, number): pass\nmix = {look: 1}", "look is not an async function; expected async def look(client, number)"),
        ("mix = {3: 1}", "3 is not an async function"),
        ("async def look(client): pass\nmix = {look: 1}", "look must take (client, number)"),
        (TWO + "mix = {look: 0}", "look has the weight 0; expected a number above 0"),
        (TWO + "mix = {look: 'x'}", "look has the weight 'x'"),
        (TWO + "mix = {look: True}", "look has the weight True"),
        (TWO + "mix = {look: float('inf')}", "look has the weight inf"),
        (TWO + "buy.__name__ = 'look'\nmix = {look: 1, buy: 1}", "two functions called look"),
        ("import sys\n\n1 / 0\n", "line 3: ZeroDivisionError: division by zero"),
        ("x = (\n", "line 1: SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_scenario(written(tmp_path, text))
    assert message in str(caught.value)
    assert "mix.py" in str(caught.value)


def test_a_file_that_is_not_there_or_no_python() -> None:
    with pytest.raises(ConfigError, match="there is no scenario nowhere.py"):
        load_scenario("nowhere.py")


def test_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "mix.txt"
    path.write_text("mix = {}", "utf-8")
    with pytest.raises(ConfigError, match=r"must end in \.py"):
        load_scenario(str(path))
