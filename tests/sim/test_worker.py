"""One worker process by itself: cases in, outcomes out, and nothing else on the pipe."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest

from holdfast.sim.scenario import Case, Outcome
from holdfast.sim.worker import READY

from .test_crew import place

pytestmark = pytest.mark.slow


def test_it_answers_each_case_and_ends_with_its_input() -> None:
    given = b"".join(msgspec.json.encode(Case(seed=seed)) + b"\n" for seed in (3, 4))
    command = [sys.executable, "-m", "holdfast.sim.worker", place("fails_now_and_then")]
    done = subprocess.run(command, input=given, capture_output=True, timeout=50, check=True)
    ready, *lines = done.stdout.splitlines(keepends=True)
    assert ready == READY
    three, four = (msgspec.json.decode(line, type=Outcome) for line in lines)
    assert (three.case.seed, four.case.seed) == (3, 4)
    assert three.failure is not None
    assert four.failure is None
    assert b"said by a scenario" not in done.stdout + done.stderr
