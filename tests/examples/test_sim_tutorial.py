"""The tutorial of the simulation, followed to the letter: written, run, broken, replayed; and the two examples beside it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, blocks
from tests.examples.conductor import EXAMPLES, python
from tests.sim.test_plugin import run_pytest

PAGE = ROOT / "docs" / "en" / "tutorial" / "simulation.md"
STORY = re.compile(
    r"FAIL seed (\d+): every effect exactly once: (?:(?:; )?'(?:ada|bob)-\d+' was applied more than once \(\d+ times\))+, at t=[\d.]+ s\n"
    r" +shrunk from \d+ to (\d+) events \(\d+ worlds tried\):\n"
    r"(?: .*\n)+"
    r" +in this small world: every effect exactly once: '(?:ada|bob)-\d+' was applied more than once \(\d times\), at t=[\d.]+ s\n"
    r" +replay: pytest test_tickets.py::test_every_order_is_sold_once --sim-replay \1\n"
)

pytestmark = pytest.mark.slow


def page() -> tuple[str, str, str, str, str]:
    """What the reader types and sees: the server, the test, the two lines, the one line, the story."""
    found = [each for each in blocks(PAGE.read_text("utf-8")) if each.info in ("python", "text")]
    server, test = (each.code for each in found if each.info == "python")
    _, before, after, story = (each.code for each in found if each.info == "text")
    return server, test, before, after, story


def test_the_reader_runs_it_breaks_it_sees_why_and_sees_it_again(tmp_path: Path) -> None:
    server, test, before, after, story = page()
    assert STORY.fullmatch(story)
    assert before in server
    (tmp_path / "tickets.py").write_text(server)
    assert "1 passed" in run_pytest(tmp_path, tests=test, name="test_tickets.py")

    (tmp_path / "tickets.py").write_text(server.replace(before, after))
    text = re.sub(r"^E?(?:   | )", "", run_pytest(tmp_path, tests=test, name="test_tickets.py"), flags=re.MULTILINE)
    found = STORY.search(text)
    assert found is not None, text
    seed, events = found.groups()
    assert int(events) <= 10

    replayed = run_pytest(
        tmp_path, "test_tickets.py::test_every_order_is_sold_once", "--sim-replay", seed, tests=test, name="test_tickets.py"
    )
    assert f"FAIL seed {seed}: every effect exactly once" in replayed

    done = python("-m", "holdfast", "sim", "test_tickets.py", "--seed", seed, "--shrink", cwd=tmp_path)
    assert done.returncode == 1
    assert [line.strip() for line in done.stdout.splitlines()[1:-1]] == [line.strip() for line in found[0].splitlines()[:-1]]

    (tmp_path / "tickets.py").write_text(server)
    assert python("-m", "holdfast", "sim", "test_tickets.py", "--seed", seed, cwd=tmp_path).returncode == 0


def test_an_office_that_remembers_in_its_own_memory_is_found_out(tmp_path: Path) -> None:
    server, test, *_ = page()
    assert "self.ledger = ledger\n" in server
    server = server.replace("self.ledger = ledger\n", "self.ledger = ledger\n        self.seen: set[str] = set()\n")
    check = "if order not in self.seen:\n                    self.seen.add(order)"
    (tmp_path / "tickets.py").write_text(server.replace("if order not in self.ledger:", check))
    (tmp_path / "test_tickets.py").write_text(test)
    done = python("-m", "holdfast", "sim", "test_tickets.py", "--seeds", "200", "--no-shrink", cwd=tmp_path)
    assert done.returncode == 1
    assert re.search(r"every effect exactly once: '\S+' was applied more than once", done.stdout)


def test_the_key_value_servers_mistake_is_found_and_the_mended_one_holds() -> None:
    done = python("-m", "holdfast", "sim", EXAMPLES / "sim_kv.py::test_store", "--seeds", "20")
    assert done.returncode == 1
    assert "no order of the operations on " in done.stdout
    assert re.search(r"shrunk from \d+ to 2 events", done.stdout)
    assert python("-m", "holdfast", "sim", EXAMPLES / "sim_kv.py::test_mended_store", "--seeds", "200").returncode == 0


def test_the_aiohttp_service_holds_and_without_its_check_does_not(tmp_path: Path) -> None:
    assert python("-m", "holdfast", "sim", EXAMPLES / "sim_aiohttp.py", "--seeds", "100").returncode == 0
    text = (EXAMPLES / "sim_aiohttp.py").read_text()
    check = "        if key not in database:\n    "
    assert check in text
    (tmp_path / "broken.py").write_text(text.replace(check, ""))
    done = python("-m", "holdfast", "sim", tmp_path / "broken.py", "--seeds", "60")
    assert done.returncode == 1, done.stderr
    assert "was applied more than once" in done.stdout
