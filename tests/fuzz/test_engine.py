"""What counts as a finding, what as slow, and that a run repeats."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random

import pytest

from tests.fuzz import corpus, engine, mutator
from tests.fuzz.harnesses.connection import HEAD_BYTES, Plan
from tests.fuzz.script import Script

ROOT = Path(__file__).resolve().parent.parent.parent


def harness(one: object) -> engine.Harness:
    return engine.Harness("addresses", one, lambda: [b"seed"], mutator.mutate_bytes)  # type: ignore[arg-type]


def test_each_place_that_fails_is_one_finding_with_its_shortest_input() -> None:
    def one(data: bytes) -> None:
        if b"a" in data:
            raise KeyError(data)
        if b"b" in data:
            raise ValueError(data)

    watch = engine.Watch(harness(one))
    for data in (b"aaa", b"a", b"aa", b"b", b"c"):
        watch.run(data)
    assert sorted(data for data, _ in watch.found.values()) == [b"a", b"b"]
    assert watch.executions == 5


def test_what_is_known_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(data: bytes) -> None:
        raise KeyError(data)

    monkeypatch.setitem(engine.KNOWN, "KeyError in test_engine.py:fails", "known")
    watch = engine.Watch(harness(fails))
    watch.run(b"x")
    assert watch.found == {}


def test_slow_is_what_is_slow_four_times() -> None:
    runs: list[bytes] = []
    watch = engine.Watch(harness(runs.append), slow_above_s=1e-12)
    watch.run(b"x")
    assert len(runs) == 1 + engine.RERUNS
    assert watch.slow == [b"x"]
    assert watch.executions == 1
    quick = engine.Watch(harness(runs.append), slow_above_s=60.0)
    quick.run(b"x")
    assert quick.slow == []


def test_the_same_seed_runs_the_same_inputs() -> None:
    runs: list[list[bytes]] = []
    for seed in ("one", "one", "two"):
        seen: list[bytes] = []
        engine.wander(harness(seen.append), seed, lambda done: done >= 60, engine.Watch(harness(seen.append)))
        runs.append(seen)
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_a_script_never_ends_and_repeats() -> None:
    first, second = Script(b"\x01\x02"), Script(b"\x01\x02")
    found = [first.byte() for _ in range(40)]
    assert found[:2] == [1, 2]
    assert first.over
    assert found == [second.byte() for _ in range(40)]
    assert len(frozenset(found)) > 20


def test_frames_come_apart_and_together_again() -> None:
    for data in engine.inputs(engine.harness("connection")):
        wire = Plan(data).wire
        assert mutator.join(*mutator.cut(wire)) == wire


def test_mutations_keep_the_shape_of_an_input() -> None:
    random, inputs = Random(5), engine.inputs(engine.harness("connection"))
    changed = [mutator.mutate(random.choice(inputs), random, inputs) for _ in range(2000)]
    assert max(map(len, changed)) <= mutator.INPUT_MAX_BYTES
    assert all(len(Plan(each).script) == each[HEAD_BYTES - 1] for each in changed if len(each) > 300)
    starts = [Plan(each).start for each in changed]
    assert frozenset(starts) == frozenset(range(8))
    assert sum(start >= 4 for start in starts) >= len(starts) // 3, "half of the runs begin in an open session"
    whole = sum(bool(mutator.cut(Plan(each).wire)[1]) for each in changed)
    assert whole > len(changed) // 2, "most mutations leave frames whole"


@pytest.mark.slow
@pytest.mark.parametrize("how", [[], ["--plain"]])
def test_the_command_line_fuzzes_and_says_what_came_of_it(how: list[str]) -> None:
    command = [sys.executable, "-m", "tests.fuzz", "run", "--seconds", "0.5", *how, "addresses", "frames"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[2:]]
    assert sorted(row[0] for row in rows) == ["addresses", "frames"]
    assert all(int(row[2]) > 50 for row in rows)
    assert how == [] or all(row[1] == "luck" for row in rows)


def test_a_finding_is_repeated_by_its_command() -> None:
    path = corpus.HERE / "findings" / "of-this-test"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"\0tcp://a:1")
    try:
        words = corpus.how_to_repeat("addresses", path).split()
        done = subprocess.run([sys.executable, *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    finally:
        path.unlink()
    assert (done.returncode, done.stdout) == (0, "nothing was found\n"), done.stderr
