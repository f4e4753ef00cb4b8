"""What users may rely on changes only on purpose."""

from __future__ import annotations

from scripts.public_names import SNAPSHOT, listed, public_names
from tests.contracts import house

FIRST_HOUR_MAX = 30


def test_the_public_names_are_the_ones_written_down() -> None:
    written = SNAPSHOT.read_text("utf-8").splitlines()
    assert public_names() == written, "the public names changed; if that is meant, run `make snapshot` and add a change fragment"


def test_the_root_holds_what_a_user_types_in_the_first_hour_and_nothing_else() -> None:
    names = listed(house.parse(house.SOURCE / "__init__.py")) or []
    assert 0 < len([name for name in names if not name.startswith("__")]) <= FIRST_HOUR_MAX


def test_every_package_but_the_command_line_says_what_is_public() -> None:
    silent = [
        house.name_of(path)
        for path in house.source_files()
        if path.name == "__init__.py" and path.parent.name != "cli" and listed(house.parse(path)) is None
    ]
    assert silent == [], "an __init__.py without __all__ exports by accident"
