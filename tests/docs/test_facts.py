"""The page of facts lists every fact there is, with its fields in order."""

from __future__ import annotations

import pytest

from holdfast import facts
from tests.docs.tables import LANGUAGES, reference, rows, words


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_fact_stands_on_the_page_with_its_fields(language: str) -> None:
    page_says = {words(name)[0]: tuple(words(fields)) for name, fields, _ in rows(reference(language, "facts.md"))}
    assert page_says == {kind.__name__: kind.__struct_fields__ for kind in facts.Fact.__subclasses__() if kind.__module__ == facts.__name__}
