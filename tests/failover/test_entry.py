"""The command line, who is compared, and what the second experiment counts."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from bench.failover import __main__ as entry
from bench.failover import script, slow
from bench.failover.accounts import Call, Execution, Written
from bench.failover.contenders import CONTENDERS, OURS, haproxy
from bench.failover.scene import Scale
from bench.failover.script import LEAD_S
from bench.failover.slow import FAILING_NODE, SLOW_NODE, Times


def test_without_words_everything_is_run() -> None:
    options = entry.parse([])
    assert options.parts == ["faults", "slow"]
    assert options.only == list(CONTENDERS)
    assert options.phases == [phase.key for phase in script.WHOLE]


def test_calm_is_there_whatever_is_chosen() -> None:
    assert entry.parse(["faults", "--phases", "freeze,kill"]).phases == ["calm", "kill", "freeze"]


@pytest.mark.parametrize("words", [["--only", "nginx"], ["--phases", "flood"], ["everything"], ["--rate", "0"]])
def test_what_there_is_not_is_refused_with_what_there_is(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        entry.parse(words)
    assert ended.value.code == 2
    assert "error" in capsys.readouterr().err


def test_holdfast_that_cannot_run_is_named_and_fails_the_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lacking = dataclasses.replace(CONTENDERS["holdfast"], packages=("a-package-that-nobody-has",))
    monkeypatch.setitem(CONTENDERS, "holdfast", lacking)
    assert entry.main(["faults", "--only", "holdfast"]) == 1
    assert "left out: holdfast: a-package-that-nobody-has is not installed" in capsys.readouterr().out


def test_a_peer_that_is_missing_is_named_and_fails_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    lacking = dataclasses.replace(CONTENDERS["haproxy"], packages=("a-package-that-nobody-has",))
    monkeypatch.setitem(CONTENDERS, "haproxy", lacking)
    assert entry.main(["faults", "--only", "haproxy"]) == 0
    assert "left out: haproxy" in capsys.readouterr().out


def test_logs_of_an_earlier_run_are_not_read_again(tmp_path: Path) -> None:
    (tmp_path / "scene").mkdir()
    (tmp_path / "scene" / "client0.records").write_text("c 1 1.0 0.1 ok \n")
    with entry.Folder(tmp_path, "scene") as folder:
        assert list(folder.iterdir()) == []


def test_every_fault_is_over_well_before_its_phase_is_and_before_calm_nothing_happens() -> None:
    assert script.WHOLE[0].key == "calm"
    assert script.WHOLE[0].steps == ()
    for phase in script.WHOLE:
        assert all(LEAD_S + step.at_s + 3.0 <= phase.seconds for step in phase.steps), phase.key


def test_enough_calls_are_in_flight() -> None:
    assert Scale(rate=entry.RATE).expected_in_flight >= 50


def test_a_whole_run_takes_less_than_ten_minutes() -> None:
    scene_s = script.WARM_S + sum(script.PAUSE_S + phase.seconds for phase in script.WHOLE)
    slow_s = slow.WARM_S + slow.HEALTHY_S + slow.NOTICED_S + slow.SLOW_S + slow.WELL_AGAIN_S + slow.SEEN_S + slow.FAILING_S
    starting_s = 4.0
    assert len(CONTENDERS) * (scene_s + starting_s) + len(slow.CONTENDERS) * (slow_s + starting_s) < 600


def test_haproxy_repeats_idempotent_calls_only_and_listens_where_we_do() -> None:
    text = haproxy.config(7, [1001, 1002])
    assert "bind fd@7" in text
    assert [line.split()[1:3] for line in text.splitlines() if line.strip().startswith("server ")] == [
        ["node0", "127.0.0.1:1001"],
        ["node1", "127.0.0.1:1002"],
    ]
    assert "http-request disable-l7-retry if !{ path_beg /look }" in text


def test_shares_are_of_executions_in_their_windows_and_latencies_of_calls() -> None:
    times = Times(healthy=(0.0, 1.0), slow=(10.0, 11.0), failing=(20.0, 21.0))
    calls = [
        Call(1, 0.5, 0.01, "ok"),
        Call(2, 10.1, 0.01, "ok"),
        Call(3, 10.2, 0.5, "ok"),
        Call(4, 20.5, 0.01, "failed"),
        Call(5, 20.6, 0.01, "ok"),
    ]
    log = [Execution(1, SLOW_NODE, 0.5), Execution(2, 3, 10.1), Execution(3, SLOW_NODE, 10.2)]
    log += [Execution(4, FAILING_NODE, 20.5), *(Execution(5, 4, 20.6) for _ in range(3))]
    figures = slow.figures("holdfast", Written(calls, [], [], log), times)
    assert (figures.slow_share, figures.failing_share, figures.failing_failed) == (0.5, 0.25, 0.5)
    assert (figures.healthy_p99_ms, figures.slow_p99_ms) == (10.0, 500.0)
    assert [line.met for line in slow.promises(figures)] == [False, False, False]
    good = dataclasses.replace(figures, slow_share=0.005, slow_p99_ms=20.0, failing_share=0.02)
    assert [line.met for line in slow.promises(good)] == [True, True, True]
    assert "50.00%" in slow.shown([figures])


def test_both_variants_of_ours_are_compared() -> None:
    assert set(OURS) < set(CONTENDERS)
