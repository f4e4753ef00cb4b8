"""The page of the surface names everything that is exported, and every keyword with its default."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

import holdfast
from holdfast import Client, Service, testing
from holdfast.calling.nodes import NodeStatus
from holdfast.handler import AttemptRecord, CallRecord
from tests.docs.tables import LANGUAGES, keywords, reference, rows, words

DOCUMENTED: dict[str, Callable[..., object]] = {
    "Service.method": Service.method,
    "serve": holdfast.serve,
    "run": holdfast.run,
    "connect": holdfast.connect,
    "dial": holdfast.dial,
    "Client.call": Client.call,
    "Client.stream": Client.stream,
    "Client.using": Client.using,
    "testing.client": testing.client,
}
LITERALS = {"True": True, "False": False, "None": None, "3": 3}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", DOCUMENTED)
def test_every_keyword_stands_on_the_page_with_its_default(name: str, language: str) -> None:
    table = rows(reference(language, "api.md"), under=name)
    says = keywords(DOCUMENTED[name])
    assert [words(row[0])[0] for row in table] == list(says)
    for keyword, default, _ in table:
        simple = says[words(keyword)[0]]
        if simple is None or isinstance(simple, (bool, int)):
            assert LITERALS[default.strip("`")] is simple, keyword


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("struct", [NodeStatus, CallRecord, AttemptRecord])
def test_every_field_of_what_users_are_told_stands_on_the_page_in_order(struct: type[msgspec.Struct], language: str) -> None:
    table = rows(reference(language, "api.md"), under=struct.__name__)
    assert [field for row in table for field in words(row[0])] == list(struct.__struct_fields__)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_exported_name_is_explained(language: str) -> None:
    text = "".join(reference(language, name).read_text("utf-8") for name in ("api.md", "errors.md"))
    assert [name for name in holdfast.__all__ if f"`{name}" not in text] == []
