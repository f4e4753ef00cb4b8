"""The accounts, from records and logs written by hand."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from bench.failover.accounts import Accounts, Call, Execution, Row, Written, percentile, read, recovery_s
from bench.failover.script import LEAD_S, Stretch
from bench.failover.tables import HEAD, cells, of_rows, promises
from bench.failover.work import may_run_twice

TWICE_ALLOWED = [number for number in range(1000) if may_run_twice(number)]
ONCE = [number for number in range(1000) if not may_run_twice(number)]
CALM, KILL, AFTER = Stretch("calm", 0.0, 10.0), Stretch("kill", 12.0, 18.0), Stretch("between", 18.0, 20.0)
STRETCHES = [CALM, Stretch("between", 10.0, 12.0), KILL, AFTER]


def written(calls: list[Call], executions: list[Execution] | None = None, broken: list[tuple[float, str]] | None = None) -> Written:
    """Everything, each call executed once unless it is said."""
    once = [Execution(call.call_id, 0, call.planned_at) for call in calls]
    return Written(calls, broken or [], [], once if executions is None else executions)


def rows(found: Written, *, streams: bool = True) -> dict[str, Row]:
    return {row.phase: row for row in Accounts("c", found, streams=streams).rows(STRETCHES)}


def test_records_and_logs_are_read_and_a_half_line_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "records").write_text("c 7 1.5000 0.02500 ok \ns 2.0000 why not\nf 3.0000 12\nc 8 1.6 0.03 unknown Lost: a b\nc 9 1.")
    (tmp_path / "log0").write_text("7 1.5001\n8 1.6")
    (tmp_path / "log2").write_text("8 1.7000\n")
    found = read([tmp_path / "records"], [tmp_path / name for name in ("log0", "log1", "log2")])
    assert found.calls == [Call(7, 1.5, 0.025, "ok"), Call(8, 1.6, 0.03, "unknown", "Lost: a b")]
    assert found.broken == [(2.0, "why not")]
    assert found.in_flight == [(3.0, 12)]
    assert found.executions == [Execution(7, 0, 1.5001), Execution(8, 2, 1.7)]


def test_every_call_is_in_the_row_of_when_it_was_due() -> None:
    calls = [Call(ONCE[number], at, 0.02, "ok") for number, at in enumerate([0.0, 9.9, 11.0, 12.0, 17.9, 19.0])]
    assert {phase: row.calls for phase, row in rows(written(calls)).items()} == {"calm": 2, "kill": 2, "between": 2}


def test_outcomes_count_by_method_and_executions_by_the_logs() -> None:
    at = 13.0
    calls = [
        Call(TWICE_ALLOWED[0], at, 0.02, "unknown"),
        Call(TWICE_ALLOWED[1], at, 0.02, "not_executed"),
        Call(TWICE_ALLOWED[2], at, 0.02, "ok"),
        Call(ONCE[0], at, 0.02, "unknown"),
        Call(ONCE[1], at, 0.02, "not_executed"),
        Call(ONCE[2], at, 0.02, "failed"),
        Call(ONCE[3], at, 0.02, "ok"),
    ]
    log = [Execution(call.call_id, 0, at) for call in calls if call.call_id != TWICE_ALLOWED[1]]
    log += [Execution(TWICE_ALLOWED[2], 1, at), Execution(ONCE[3], 1, at)]
    kill = rows(written(calls, log))["kill"]
    assert (kill.failed_idempotent, kill.failed, kill.unknown) == (2, 2, 1)
    assert (kill.twice, kill.repeated, kill.wrongly_not_executed) == (1, 1, 1)


def test_an_answer_that_no_log_knows_is_noticed() -> None:
    call = Call(ONCE[0], 1.0, 0.02, "ok")
    assert Accounts("c", written([call], []), streams=False).unlogged() == 1
    assert Accounts("c", written([call]), streams=False).unlogged() == 0


def test_reasons_are_counted_without_ports_and_calls() -> None:
    calls = [Call(number, 1.0, 0.02, "unknown", f"503 at 1.2.3.4:{number}/place/{number}") for number in (1000, 20000)] + [
        Call(5, 1.0, 0.02, "ok")
    ]
    assert Accounts("c", written(calls), streams=False).reasons() == [("unknown: 503 at 1.2.3.4:N/place/N", 2)]


def test_streams_break_in_the_phase_they_break_in_and_are_left_out_where_there_are_none() -> None:
    found = written([Call(ONCE[0], 1.0, 0.02, "ok")], broken=[(13.0, "x"), (14.0, "x"), (19.0, "x")])
    assert {phase: row.streams_broken for phase, row in rows(found).items()} == {"calm": 0, "kill": 2, "between": 1}
    assert rows(found, streams=False)["kill"].streams_broken is None


@pytest.mark.parametrize(("part", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (1.0, 100)])
def test_percentiles_are_values_that_were_there(part: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), part) == expected


def test_a_percentile_of_nothing_is_no_number() -> None:
    assert math.isnan(percentile([], 0.5))


def per_second(*latencies_s: float, outcome: str = "ok") -> list[Call]:
    """A call in the middle of each second after the fault."""
    return [
        Call(ONCE[second], KILL.begun_at + LEAD_S + second + 0.5, latency, outcome if latency < 0.01 else "ok")
        for second, latency in enumerate(latencies_s)
    ]


@pytest.mark.parametrize(
    ("calls", "expected"),
    [
        (per_second(0.02, 0.02, 0.02, 0.02, 0.02), 0),
        (per_second(0.50, 0.02, 0.02, 0.02, 0.02), 1),
        (per_second(0.02, 0.02, 0.50, 0.02, 0.02), 3),
        (per_second(0.50, 0.02, 0.02, 0.02, 0.50), None),
        (per_second(0.02, 0.001, 0.02, 0.02, 0.02, outcome="failed"), 2),  # quick, and not well
    ],
)
def test_recovery_is_the_first_second_from_which_all_is_well_to_the_end(calls: list[Call], expected: int | None) -> None:
    assert recovery_s(calls, KILL, 0.1) == expected


# ------------------------------------------------------------------------------------------------------------------ promises

GOOD = Row(
    contender="holdfast", phase="calm", calls=10, failed_idempotent=0, failed=0, unknown=0, twice=0, repeated=0, wrongly_not_executed=0,
    p50_ms=40.0, p99_ms=50.0, longest_ms=900.0, longest_idempotent_ms=900.0, recovered_s=0, streams_broken=0,
)  # fmt: skip


def met(unlogged: int = 0, **changed: Any) -> bool:
    """Whether everything counts as kept when the kill phase was like that."""
    phases = [GOOD, dataclasses.replace(GOOD, phase="kill", **changed), dataclasses.replace(GOOD, phase="freeze")]
    return all(line.met for line in promises("holdfast", phases, unlogged))


def test_promises_are_kept_up_to_their_limits_and_missed_beyond() -> None:
    assert met(p99_ms=100.0, longest_idempotent_ms=1000.0, unknown=9, repeated=9, failed=9, longest_ms=9000.0)
    for changed in (
        {"p99_ms": 100.1},
        {"longest_idempotent_ms": 1000.1},
        {"failed_idempotent": 1},
        {"twice": 1},
        {"wrongly_not_executed": 1},
    ):
        assert not met(**changed), changed
    assert not met(unlogged=1)
    assert not met(p99_ms=math.nan)


def test_a_table_has_a_row_each_and_says_when_there_was_no_recovery() -> None:
    kill = dataclasses.replace(GOOD, phase="kill", recovered_s=None, streams_broken=None)
    lines = of_rows([GOOD, kill]).splitlines()
    assert len(lines) == 4
    assert len(cells(kill)) == len(HEAD)
    assert cells(GOOD)[-2:] == ["–", "0"]
    assert cells(kill)[-2:] == ["never", "–"]
