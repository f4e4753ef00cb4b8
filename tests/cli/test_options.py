"""Who is looking decides how it is printed."""

from __future__ import annotations

import io

import click
import pytest

from holdfast.cli.options import Style, is_terminal, wall
from holdfast.observe.log import JsonLog, TextLog


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def style(**given: bool) -> Style:
    return Style(**{"json": False, "no_color": False, "quiet": False, "verbose": False, **given})


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_text_on_a_terminal_json_otherwise_or_when_asked() -> None:
    assert isinstance(style().log(Terminal()), TextLog)
    assert isinstance(style().log(io.StringIO()), JsonLog)
    assert isinstance(style(json=True).log(Terminal()), JsonLog)


def test_colour_needs_a_terminal_and_nobody_against_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert style().colour(Terminal())
    assert not style().colour(io.StringIO())
    assert not style(no_color=True).colour(Terminal())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not style().colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not style().colour(Terminal())


def test_quiet_and_verbose_together_are_refused() -> None:
    with pytest.raises(click.UsageError, match="-q and -v"):
        style(quiet=True, verbose=True)


def test_a_closed_stream_is_no_terminal() -> None:
    stream = Terminal()
    stream.close()
    assert not is_terminal(io.TextIOWrapper(io.BytesIO()))
    assert wall().tzinfo is not None
