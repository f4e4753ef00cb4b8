"""The file of failing cases: what goes in comes out, the same bytes each time, and nothing is lost to a broken file."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.errors import ConfigError
from holdfast.sim.corpus import Corpus
from holdfast.sim.faults import Fault, FaultPlan
from holdfast.sim.scenario import Case

PLAN = FaultPlan((Fault(0.25, "partition", "a", ("b", True)), Fault(0.5, "kill", "a", (), 3)), recorded=True)
CASE = Case(seed=733, plan=PLAN, calm=True, kept=(("c1", 0), ("c2", 7)))


def test_a_file_that_is_not_there_is_empty(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path / "none.json")
    assert len(corpus) == 0
    assert corpus.cases("test_x") == []


def test_a_case_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "corpus.json"
    corpus = Corpus(path)
    assert corpus.add("test_x", CASE, "every effect exactly once")
    assert corpus.add("test_x", Case(seed=1), "converges")
    assert not corpus.add("test_x", CASE, "again")
    assert corpus.add("test_a", CASE, "elsewhere")
    corpus.save()
    again = Corpus(path)
    assert len(again) == 3
    assert again.cases("test_x") == [CASE, Case(seed=1)]
    assert again.why("test_x", CASE) == "every effect exactly once"
    assert again.why("test_x", Case(seed=9)) == ""
    before = path.read_bytes()
    again.save()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["corpus.json"]


def test_the_same_cases_are_the_same_bytes_whatever_the_order_of_scenarios(tmp_path: Path) -> None:
    one, other = Corpus(tmp_path / "one.json"), Corpus(tmp_path / "other.json")
    for name in ("b", "a"):
        one.add(name, CASE, "x")
    for name in ("a", "b"):
        other.add(name, CASE, "x")
    one.save()
    other.save()
    assert one.path.read_bytes() == other.path.read_bytes()


@pytest.mark.parametrize("text", ["", "[1]", '{"test_x": [{"why": "w"}]}', '{"test_x": [{"why": "w", "case": {"seed": "7"}}]}'])
def test_a_broken_file_is_an_error_and_not_empty(tmp_path: Path, text: str) -> None:
    path = tmp_path / "corpus.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="is not a corpus: .*; expected what `holdfast sim --corpus` writes"):
        Corpus(path)
    assert path.read_text() == text
