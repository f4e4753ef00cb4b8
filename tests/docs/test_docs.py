"""The docs run, and say the same in both languages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, blocks, name_of, pages, pairs, run_page

README_LINES_MAX = 150
README_CODE_BY_LINE = 25


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_the_code_of_a_page_runs(page: Path) -> None:
    run_page(page)


@pytest.mark.parametrize(("english", "chinese"), pairs(), ids=lambda page: name_of(page))
def test_a_page_stands_in_both_languages_with_the_same_code(english: Path, chinese: Path) -> None:
    assert english.exists(), f"{name_of(chinese)} has no English page"
    assert chinese.exists(), f"{name_of(english)} has no Chinese page"
    ours, theirs = (blocks(page.read_text("utf-8")) for page in (english, chinese))
    assert [(each.info, _code(each.code)) for each in theirs] == [(each.info, _code(each.code)) for each in ours]


def _code(text: str) -> str:
    """A block without its comments, which are translated."""
    return "\n".join(re.sub(r"\s*#.*$", "", line) for line in text.splitlines())


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_inside_the_repository_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    dead = [target for target in targets if "://" not in target and not (page.parent / target).exists()]
    assert dead == []


@pytest.mark.parametrize("name", ["README.md", "README.zh-CN.md"])
def test_a_readme_is_short_and_shows_code_early(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")
    assert len(text.splitlines()) <= README_LINES_MAX
    assert blocks(text)[0].line <= README_CODE_BY_LINE
    assert "English" in text.splitlines()[2]
    assert "简体中文" in text.splitlines()[2]


@pytest.mark.parametrize("page", [page for page in pages() if page.is_relative_to(DOCS / "zh") or "zh-CN" in page.name], ids=name_of)
def test_chinese_pages_keep_a_space_between_the_two_scripts(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", "", page.read_text("utf-8"), flags=re.DOTALL)
    assert re.findall(r"[\u4e00-\u9fff][A-Za-z0-9]|[A-Za-z0-9][\u4e00-\u9fff]|您|该|并非", text) == []


# ------------------------------------------------------------------------------------------------- the runner itself is seen to work


def page_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> Path:
    monkeypatch.setattr("tests.docs.pages.ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text(text, "utf-8")
    return page


def test_blocks_share_a_namespace_may_await_and_are_compared_with_their_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "```python run\nimport asyncio\nx = 1\n```\n```python run\nawait asyncio.sleep(0)\nprint(x + 1)\n```\n```text output\n2\n```\n"
    run_page(page_with(tmp_path, monkeypatch, text))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("```python run\n1 / 0\n```\n", ZeroDivisionError),
        ("```python\n1 +\n```\n", SyntaxError),
        ("```python run\nprint(1)\n```\n```text output\n2\n```\n", AssertionError),
        ("```pythn run\n1\n```\n", ValueError),
        ("```python\n1\n", ValueError),
    ],
    ids=["raises", "syntax", "output", "kind", "unclosed"],
)
def test_a_wrong_block_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        run_page(page_with(tmp_path, monkeypatch, text))
