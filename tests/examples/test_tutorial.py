"""The tutorial, followed to the letter: its files are written, its service is served, its commands and programs are run and compared.

The runner of tests/docs compiles these blocks; here they run as separate programs against one service, as the reader runs them.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.examples.conductor import python, serving

PAGE = ROOT / "docs" / "en" / "tutorial" / "first-service.md"
ADDRESS = "tcp://127.0.0.1:7000"
PROGRAMS = ("client.py", "stream.py", "deadline.py", "cancel.py")

pytestmark = pytest.mark.slow


def files() -> dict[str, str]:
    """The files the reader is told to write, by the name in their first line."""
    named = ((re.match(r"# (\w+\.py)\n", block.code), block.code) for block in blocks(PAGE.read_text("utf-8")) if block.info == "python")
    return {found[1]: code for found, code in named if found}


def outputs() -> dict[str, str]:
    """What each program is said to print: the `text` block right after it."""
    all_blocks = blocks(PAGE.read_text("utf-8"))
    found: dict[str, str] = {}
    for block, after in pairwise(all_blocks):
        if block.info == "python" and after.info == "text":
            found[block.code.split("\n", 1)[0].removeprefix("# ")] = after.code
    return found


def calls() -> Iterator[tuple[list[str], str]]:
    """Each `$ holdfast call …` line, as words, with what the page says it prints (empty: it is an error)."""
    for block in blocks(PAGE.read_text("utf-8")):
        if block.info == "console":
            for part in re.split(r"^\$ ", block.code, flags=re.MULTILINE)[1:]:
                command, _, printed = part.partition("\n")
                if command.startswith("holdfast call"):
                    yield shlex.split(command)[1:], printed


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The reader's folder, with every file of the page in it."""
    for name, code in files().items():
        (tmp_path / name).write_text(code, "utf-8")
    return tmp_path


def with_address(folder: Path, address: str) -> None:
    for path in folder.glob("*.py"):
        path.write_text(path.read_text("utf-8").replace(ADDRESS, address), "utf-8")


def test_the_page_has_the_files_and_outputs_that_are_followed_here() -> None:
    assert set(files()) == {"shop.py", "test_shop.py", *PROGRAMS}
    assert set(outputs()) == set(PROGRAMS)
    assert len(list(calls())) == 5


def test_the_commands_print_what_the_page_says(folder: Path) -> None:
    with serving("shop:svc", folder) as served:
        for words, printed in calls():
            done = python("-m", "holdfast", *(word.replace(ADDRESS, served.address) for word in words), cwd=folder)
            if printed:
                assert (done.stdout, done.stderr, done.returncode) == (printed, "", 0), words
            else:
                assert done.returncode in (1, 2), words
                assert "order.qty" in done.stderr or "we have only 100" in done.stderr


def test_the_programs_print_what_the_page_says(folder: Path) -> None:
    with serving("shop:svc", folder) as served:
        with_address(folder, served.address)
        for name in PROGRAMS:
            done = python(name, cwd=folder)
            assert (done.stdout, done.stderr, done.returncode) == (outputs()[name], "", 0), name


def test_a_deadline_and_a_cancel_stop_the_work_on_the_far_side(folder: Path) -> None:
    with serving("shop:svc", folder) as served:
        with_address(folder, served.address)
        for name, stopped in (("deadline.py", "o-1: stopped packing\n"), ("cancel.py", "o-2: stopped packing\n")):
            assert python(name, cwd=folder).returncode == 0
            assert next(line for line in served.lines if "packing" in line) == stopped


def test_the_test_passes(folder: Path) -> None:
    done = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py", cwd=folder)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout
