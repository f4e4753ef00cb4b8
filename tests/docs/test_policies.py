"""The pages about policies: their pictures are what the machines do, their defaults what the code says, and none is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.rpc.dialer import DialConfig
from scripts.figure_words import chinese, in_chinese
from scripts.policy_figures import ALL, drawn, path_of
from tests.docs.pages import DOCS
from tests.docs.tables import LANGUAGES, rows, words
from tests.docs.test_defaults import NODES, POLICIES, code_says, value_of

NAMES = [name for name in ALL if name != "stack"]
BESIDES = {"connect.attempts", "ClientConfig.deadline_s", "ClientConfig.waiting_max"}
"""Defaults that belong to a policy and stand in no config of its own."""


def page_of(language: str, name: str) -> Path:
    return DOCS / language / "explanation" / "policies" / f"{'index' if name == 'stack' else name}.md"


def defaults_on(page: Path) -> list[list[str]]:
    """The rows of a page's tables that are defaults: setting, default, reason."""
    return [row for row in rows(page) if len(row) == 3 and re.fullmatch(r"`(connect|[A-Z]\w+)\.\w+`", row[0])]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ALL)
def test_a_picture_is_what_the_machine_does(name: str, language: str) -> None:
    there = path_of(name, language).read_text("utf-8")
    assert drawn(name, language) == there, "the machine does something else now; look, then `python -m scripts.policy_figures --write`"


@pytest.mark.parametrize("language", LANGUAGES)
def test_there_is_no_picture_that_nothing_draws(language: str) -> None:
    assert {path.stem for path in path_of("stack", language).parent.iterdir()} == set(ALL)


def test_the_words_of_a_picture_are_translated_around_its_numbers_and_none_is_left_out() -> None:
    text = '<svg aria-label="seconds"><text x="1">failed: 7 of 1,151</text><text x="2">unavailable, executed: no</text></svg>'
    said = '<svg aria-label="秒"><text x="1">失败：7 / 1,151</text><text x="2">unavailable, executed: no</text></svg>'
    assert in_chinese(text) == said
    with pytest.raises(KeyError, match="nobody has translated this"):
        chinese("nobody has translated this")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ALL)
def test_a_page_shows_its_picture_and_the_first_page_leads_to_it(name: str, language: str) -> None:
    page = page_of(language, name)
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text("utf-8"))
    assert [(page.parent / each).resolve() for each in shown] == [path_of(name, language)]
    assert name == "stack" or f"]({name}.md)" in page_of(language, "stack").read_text("utf-8")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", NAMES)
def test_the_defaults_of_a_page_are_those_of_the_code_and_defended(name: str, language: str) -> None:
    table = defaults_on(page_of(language, name))
    says = code_says()
    assert {words(item)[0]: value_of(default) for item, default, _ in table} == {
        words(item)[0]: says[words(item)[0]] for item, _, _ in table
    }
    assert [item for item, _, why in table if len(why) < 8] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_default_of_a_policy_stands_on_one_page(language: str) -> None:
    told = [words(row[0])[0] for name in NAMES for row in defaults_on(page_of(language, name))]
    there = {f"{config.__name__}.{field}" for config in (*POLICIES, *NODES, DialConfig) for field in config.__struct_fields__}
    assert sorted(told) == sorted(there | BESIDES)
