"""Names near a name, and text that cannot drive a terminal."""

from __future__ import annotations

from holdfast.cli.text import printable, suggestion


def test_the_nearest_name_is_suggested() -> None:
    assert suggestion("prise", ["place", "price"]) == ", did you mean 'price'?"
    assert suggestion("zzz", ["place", "price"]) == ""


def test_control_characters_are_shown_not_sent() -> None:
    assert printable("plain 中文") == "plain 中文"
    assert printable("\x1b[2J\n\x9b\udcff") == "\\x1b[2J\\n\\x9b\\udcff"
