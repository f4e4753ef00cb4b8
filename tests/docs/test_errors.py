"""The page of errors lists every class with its facts, and every code."""

from __future__ import annotations

import pytest

import holdfast
from holdfast.errors import CODE_NAMES, HoldfastError
from tests.docs.tables import LANGUAGES, reference, rows, words


def classes() -> dict[str, type[HoldfastError]]:
    exported = {name: getattr(holdfast, name) for name in holdfast.__all__}
    return {name: kind for name, kind in exported.items() if isinstance(kind, type) and issubclass(kind, HoldfastError)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_error_stands_on_the_page_with_its_four_facts(language: str) -> None:
    table = [row for row in rows(reference(language, "errors.md")) if len(row) == 6]
    page_says = {words(name)[0]: (code.strip("`"), *facts) for name, code, *facts, _ in table}
    code_says = {
        name: ("(given)" if name == "Refused" else kind.code, kind.fault, kind.executed, kind.retry)
        for name, kind in classes().items()
        if kind is not HoldfastError
    }
    assert page_says == code_says


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_sixteen_codes_and_every_attribute_stand_on_the_page(language: str) -> None:
    page = reference(language, "errors.md")
    block = page.read_text("utf-8").split("```")[1]
    assert sorted(block.split()[1:]) == sorted(CODE_NAMES)
    attributes = {words(row[0])[0] for row in rows(page) if len(row) == 3}
    instance = vars(HoldfastError("x"))
    assert attributes == {*instance, "code", "fault", "executed", "retry"}
