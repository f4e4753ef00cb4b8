"""The tree on the page about the house is the tree there is: no file without its place, no place without its file."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import DOCS, ROOT, blocks
from tests.docs.tables import LANGUAGES

SRC = ROOT / "src" / "holdfast"
ENTRY_POINTS = {"__init__", "__main__"}
ONE_PLACE = {"cli"}
"""A folder of many small files of one kind stands as a whole."""


def tree(language: str) -> str:
    page = DOCS / language / "explanation" / "house.md"
    return next(block.code for block in blocks(page.read_text("utf-8")) if block.code.startswith("src/holdfast/"))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_file_has_its_place_in_the_tree(language: str) -> None:
    places = set(re.findall(r"\w+", tree(language)))
    files = {path for path in SRC.rglob("*.py") if path.stem not in ENTRY_POINTS and path.parent.name not in ONE_PLACE}
    assert sorted(str(path.relative_to(SRC)) for path in files if path.stem not in places) == []
    assert {path.parent.name for path in SRC.glob("*/__init__.py")} <= places


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_tree_names_no_file_or_folder_that_is_not_there(language: str) -> None:
    named = re.findall(r"\b(\w+\.py|\w+/)(?=\s)", tree(language).partition("\n")[2])
    assert named
    assert [name for name in named if not (SRC / name).exists()] == []
