"""Every input that was worth keeping, once with every change; and the corpus itself, which must stay small."""

from __future__ import annotations

import base64
import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import corpus, engine
from tests.fuzz.harnesses import connection

ROOT = Path(__file__).resolve().parent.parent.parent
EVERY_BYTE_MAX = 700
INPUTS_MAX = 1500
SIZE_MAX_BYTES = 1 << 20
LINES_LEAST = 0.95


def regressions(name: str) -> list[bytes]:
    return corpus.read(corpus.HERE / "regressions" / f"{name}.txt")


@pytest.mark.parametrize("name", engine.NAMES)
def test_the_corpus_runs_through(name: str) -> None:
    watch = engine.Watch(engine.harness(name))
    for data in engine.inputs(watch.harness):
        watch.run(data)
    assert watch.complaints() == []


def test_the_corpus_of_the_connection_runs_through_byte_by_byte() -> None:
    harness = engine.harness("connection")
    watch = engine.Watch(dataclasses.replace(harness, one=functools.partial(connection.one, every_byte=True)))
    for data in engine.inputs(harness):
        if len(data) <= EVERY_BYTE_MAX:
            watch.run(data)
    assert watch.complaints() == []


def test_what_is_known_and_open_still_fails() -> None:
    places = []
    for name in engine.NAMES:
        for data in regressions(name):
            try:
                engine.harness(name).one(data)
            except Exception as error:
                places.append(engine.where(error)[0])
    mended = [place for place in engine.KNOWN if place not in places]
    assert mended == [], "take it out of KNOWN; its input stays and must run through from now on"


def test_the_corpus_is_small_and_written_in_one_way() -> None:
    files = sorted((corpus.HERE / "corpus").iterdir())
    assert [path.stem for path in files] == sorted(engine.NAMES)
    assert sum(path.stat().st_size for path in files) <= SIZE_MAX_BYTES
    assert sum(len(corpus.read(path)) for path in files) <= INPUTS_MAX
    for path in files:
        lines = path.read_text("ascii").splitlines()
        assert lines == [base64.b64encode(data).decode() for data in corpus.in_order(corpus.read(path))]


@pytest.mark.slow
def test_the_corpus_reaches_nearly_every_line_of_the_wire(tmp_path: Path) -> None:
    names = ("connection", "frames", "settings")
    run = [sys.executable, "-m", "coverage", "run", f"--data-file={tmp_path}/data", "--source=holdfast.wire", "-m", "tests.fuzz", "replay"]
    report = [sys.executable, "-m", "coverage", "json", f"--data-file={tmp_path}/data", "-q", "-o", f"{tmp_path}/report.json"]
    for command in ([*run, *names], report):
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    found = json.loads((tmp_path / "report.json").read_text("utf-8"))
    lines = found["totals"]["covered_lines"] / found["totals"]["num_statements"]
    missing = {path: each["missing_lines"] for path, each in found["files"].items() if each["missing_lines"]}
    assert lines >= LINES_LEAST, f"{lines:.1%} of the lines; missing are {missing}"
