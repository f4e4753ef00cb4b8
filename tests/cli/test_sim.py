"""`holdfast sim` as a process: what it prints, how it exits, and how it ends when it is told to."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.cli.processes import holdfast, one_line, running

FILE = str(Path(__file__).parent.parent / "sim" / "campaigns.py")
FAILS, FINE = f"{FILE}::fails_now_and_then", f"{FILE}::fine"

pytestmark = pytest.mark.slow


def test_a_good_campaign_says_what_it_did_and_exits_with_0() -> None:
    done = holdfast("sim", FINE, "--seeds", "30")
    assert (done.returncode, done.stderr) == (0, b"")
    first, second = done.stdout.decode().splitlines()
    assert first.startswith("fine: 30 worlds, 1.0 s simulated each, in ")
    assert first.endswith(" times real time)")
    assert second == "ok · reached: the end in 30"


def test_a_failing_one_shows_seed_invariant_story_and_replay_and_exits_with_1() -> None:
    done = holdfast("sim", FAILS, "--seeds", "40")
    assert done.returncode == 1
    _, *story = done.stdout.decode().splitlines()
    assert story[0].startswith("FAIL seed 3 (and 3 more: 13, 23, 33): never three: seed 3, at t=1.0")
    assert story[1].startswith("  shrunk from 8 to 1 events (")
    assert story[2].strip() == "c1  put 5"
    assert story[3].startswith("  in this small world: never three: seed 3, at t=1.0")
    assert story[4] == f"  replay: holdfast sim {FAILS} --seed 3 --shrink"
    assert len(story) == 5


def test_the_replay_command_shows_the_same_and_what_the_scenario_prints() -> None:
    done = holdfast("sim", FAILS, "--seed", "3", "--shrink")
    assert done.returncode == 1
    text = done.stdout.decode()
    assert "FAIL seed 3: never three: seed 3, at t=1.0" in text
    assert "shrunk from 8 to 1 events" in text
    assert text.count("said by a scenario") == 1
    plain = holdfast("sim", FAILS, "--seed", "3")
    assert plain.returncode == 1
    assert "shrunk" not in plain.stdout.decode()
    assert holdfast("sim", FAILS, "--seed", "4").returncode == 0


def test_json_is_one_object_per_scenario_with_the_case_in_it() -> None:
    done = holdfast("sim", FAILS, "--seeds", "20", "--json")
    assert done.returncode == 1
    record = json.loads(done.stdout)
    assert (record["scenario"], record["ok"], record["worlds"], record["reached"]) == ("fails_now_and_then", False, 20, {"the end": 20})
    (failure,) = record["failures"]
    assert (failure["seeds"], failure["invariant"], failure["events"]) == ([3, 13], "never three", ["c1  put 5"])
    assert failure["shrunk"]["to"] == 1
    assert failure["case"]["kept"] == [["c1", 5]]
    assert failure["replay"].endswith("--seed 3 --shrink")
    whole = holdfast("sim", FILE, "--seed", "1", "--json")
    assert [json.loads(line)["scenario"] for line in whole.stdout.splitlines()] == [
        "fails_now_and_then", "fine", "never_reaches", "dies", "hangs",
    ]  # fmt: skip


def test_a_point_that_is_never_reached_fails() -> None:
    done = holdfast("sim", f"{FILE}::never_reaches", "--seeds", "5", "--workers", "1")
    assert done.returncode == 1
    assert "FAIL never reached: 'the moon' in 5 worlds" in done.stdout.decode()


def test_what_fails_is_kept_and_run_first_the_next_time(tmp_path: Path) -> None:
    corpus = tmp_path / "kept.json"
    first = holdfast("sim", FAILS, "--seeds", "20", "--corpus", str(corpus))
    assert first.returncode == 1
    assert f"1 new in {corpus}, 1 in all" in first.stderr.decode()
    assert json.loads(corpus.read_text())["fails_now_and_then"][0]["case"]["seed"] == 3
    again = holdfast("sim", FAILS, "--first", "4", "--seeds", "3", "--corpus", str(corpus))
    assert again.returncode == 1
    assert "fails_now_and_then: 4 worlds" in again.stdout.decode()
    assert "FAIL seed 3: never three" in again.stdout.decode()
    assert again.stderr == b""


def test_quiet_says_only_what_failed_and_verbose_where() -> None:
    assert holdfast("sim", FINE, "--seeds", "5", "-q").stdout == b""
    assert b"FAIL" in holdfast("sim", FAILS, "--seeds", "5", "-q").stdout
    assert b"Traceback" in holdfast("sim", FAILS, "--seeds", "5", "-v").stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((f"{FILE}::nothing",), "has no scenario 'nothing'; it has fails_now_and_then, fine"),
        (("no_such_file.py",), "there is no file no_such_file.py"),
        ((FINE, "--seeds", "0"), "0 is not in the range"),
        ((FINE, "--corpus", __file__), "is not a corpus"),
    ],
)
def test_usage_is_one_line_and_2(words: tuple[str, ...], message: str) -> None:
    done = holdfast("sim", *words)
    assert done.returncode == 2
    assert message in one_line(done)


def test_ctrl_c_ends_it_with_what_was_found_and_130() -> None:
    with running("sim", FAILS, "--seeds", "100000000", "-v") as process:
        while ", 0 failed" in process.err.until(" of 100000000 worlds, "):
            pass
        process.tell(signal.SIGINT)
        assert process.code() == 130
        said = process.out.rest()
        assert said[0].startswith("fails_now_and_then: ")
        assert " of 100000000 worlds" in said[0]
        assert any(re.match(r"FAIL seed \d*3\b", line) for line in said), "whichever worker was first"
        assert process.err.rest()[-1] == "interrupted; nothing was shrunk"
