"""Reading the tables of a page, so that what a page claims can be held against the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path

from tests.docs.pages import DOCS

LANGUAGES = ("en", "zh")


def reference(language: str, name: str) -> Path:
    """A page of the reference."""
    return DOCS / language / "reference" / name


def rows(page: Path, *, under: str | None = None) -> list[list[str]]:
    """The cells of every table row of the page (or of the section `### under`), without the heads."""
    text = page.read_text("utf-8")
    if under is not None:
        sections = re.split(r"^#+ ", text, flags=re.MULTILINE)
        text = next(section for section in sections if section.startswith(f"`{under}`\n"))
    found: list[list[str]] = []
    for line in text.splitlines():
        if re.fullmatch(r"\|(---\|)+", line):
            found.pop()  # the row above the rule is the head
        elif line.startswith("|"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def words(cell: str) -> list[str]:
    """What stands between backticks in a cell."""
    return re.findall(r"`([^`]+)`", cell)


def keywords(fn: Callable[..., object]) -> dict[str, object]:
    """The keyword-only parameters of a function with their defaults."""
    return {p.name: p.default for p in inspect.signature(fn).parameters.values() if p.kind is p.KEYWORD_ONLY}
