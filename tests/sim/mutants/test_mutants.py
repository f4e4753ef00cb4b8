"""Mutants: the patches apply and are small, the table is about them, and the simulation catches what the table says it does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sim.mutants import table
from tests.sim.mutants.patching import CHANGED_LINES_MAX, PATCHES, REPOSITORY, DoesNotApply, Mutant, all_mutants, read
from tests.sim.mutants.trial import Workshop, workshop

MUTANTS = all_mutants()
ROWS = table.load()

AGAIN = 5
"""So many mutants are caught again in `make test`."""

NEAR_WORLDS = 60
"""A change of the package changes what happens in the world of a seed; then the mutant is caught in one of the next."""


def quickest() -> list[str]:
    """Mutants that no other test notices, of different invariants as far as there are, those first that are caught soonest."""
    by_worlds = sorted((name for name, row in ROWS.items() if table.alone(row)), key=lambda name: table.median_worlds(ROWS[name]))
    first_of_each = list({ROWS[name]["invariant"]: name for name in reversed(by_worlds)}.values())
    return sorted(by_worlds, key=lambda name: name not in first_of_each)[:AGAIN]


@pytest.mark.parametrize("name", MUTANTS)
def test_the_patch_applies_and_is_small(name: str) -> None:
    mutant = MUTANTS[name]
    source = (REPOSITORY / mutant.file).read_text("utf-8")
    mutated = mutant.mutate(source)
    assert mutated != source
    compile(mutated, mutant.file, "exec")
    assert 1 <= mutant.changed_lines <= CHANGED_LINES_MAX
    assert re.fullmatch(r"[A-Z].+[^.]\.", mutant.story), "what it breaks is said in one sentence"


def test_there_are_enough_and_half_need_the_simulation() -> None:
    spine = {name: row for name, row in ROWS.items() if not name.startswith("fleet_")}
    fleet = {name: row for name, row in ROWS.items() if name.startswith("fleet_")}
    assert sum(map(table.caught, spine.values())) >= 20
    assert 2 * sum(map(table.alone, spine.values())) >= len(spine)
    assert sum(map(table.caught, fleet.values())) >= 15
    assert 2 * sum(map(table.alone, fleet.values())) >= len(fleet)


def test_the_table_is_about_the_patches_there_are() -> None:
    assert list(ROWS) == list(MUTANTS)
    assert table.README.read_text("utf-8") == table.HEAD + table.page(ROWS, MUTANTS), "write it anew with `make mutants`"


def test_every_invariant_of_the_table_is_one_of_the_campaign() -> None:
    said = "".join(
        path.read_text("utf-8") for name in ("spine", "fleet") for path in sorted((REPOSITORY / f"tests/sim/{name}").glob("*.py"))
    )
    said += (REPOSITORY / "tests/sim/staging.py").read_text("utf-8")
    engine = "".join(path.read_text("utf-8") for path in sorted((REPOSITORY / "src/holdfast/sim").glob("*.py")))
    for name, row in ROWS.items():
        if table.caught(row):
            known = f'"{row["invariant"]}"' in said + engine
            assert known, f"{name}: no invariant is called {row['invariant']}"
            assert row["seeds"]


def test_a_patch_that_no_longer_applies_says_so() -> None:
    mutant = next(iter(MUTANTS.values()))
    source = (REPOSITORY / mutant.file).read_text("utf-8")
    with pytest.raises(DoesNotApply, match=r"stand 0 times in .* expected once"):
        mutant.mutate(mutant.mutate(source))
    with pytest.raises(DoesNotApply, match="stand 2 times"):
        mutant.mutate(source + source)


def test_only_a_patch_of_one_of_our_files_is_one(tmp_path: Path) -> None:
    sound = (PATCHES / f"{next(iter(MUTANTS))}.patch").read_text("utf-8")
    for broken in (
        sound[sound.index("---") :],
        sound.replace("b/src/holdfast/", "b/tests/"),
        sound + sound[sound.index("---") :],
        "Nothing.\n",
    ):
        (tmp_path / "one.patch").write_text(broken, "utf-8")
        with pytest.raises(ValueError, match=r"one\.patch"):
            read(tmp_path / "one.patch")


# ---------------------------------------------------------------------------------------------------------------- once more


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    with workshop() as made:
        yield made


@pytest.mark.slow
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", quickest())
def test_the_simulation_catches_it_where_the_table_says(shop: Workshop, name: str) -> None:
    caught = shop.simulate(MUTANTS[name], ROWS[name]["seeds"][0], NEAR_WORLDS)
    assert caught is not None, f"{name} is not caught any more: run `python -m tests.sim.mutants {name}`"
    assert shop.is_sound(caught.seed, MUTANTS[name].campaign)


@pytest.mark.slow
def test_what_is_tested_is_the_copy(shop: Workshop) -> None:
    unwelcome = Mutant(
        "broken", "It cannot be imported.", "src/holdfast/__init__.py", (("__all__ = (", 'raise ImportError("mutated")\n__all__ = ('),), 1
    )
    with shop.mistake(unwelcome), pytest.raises(RuntimeError, match="ImportError: mutated"):
        shop.campaign(0, 1)
    assert shop.campaign(0, 1) is None, "the mistake was taken back"
