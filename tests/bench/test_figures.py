"""What is made of the rounds: what is left out, medians, ratios, the promised lines."""

from __future__ import annotations

import pytest

from bench import figures, lines
from bench.figures import Ratio, Sample
from bench.lines import Line
from bench.peers import OURS, PEERS, YARDSTICK
from bench.workloads import TLS
from tests.bench.handmade import Change, rounds


def samples(*values: tuple[float | None, float], side: str = OURS) -> list[Sample]:
    """One sample a round: its rate, and the cores that others took."""
    return [Sample(at, "unary-64", side, {"rate": rate, "foreign_cores": foreign}) for at, (rate, foreign) in enumerate(values, 1)]


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        ([(10.0, 0.0), (30.0, 0.0), (20.0, 0.0)], 20.0),
        ([(10.0, 0.0), (30.0, 0.0)], 20.0),
        ([(10.0, 0.0), (12.0, 0.15), (99.0, 0.16)], 11.0),
        ([(10.0, 0.0), (98.0, 0.5), (99.0, 0.5)], 98.0),
        ([(None, 0.0), (10.0, 0.0)], 10.0),
        ([(None, 0.0)], None),
        ([], None),
    ],
    ids=["odd", "even", "a flagged one is left out", "one quiet one is not enough", "a gap", "only a gap", "nothing"],
)
def test_medians_leave_out_what_was_disturbed_where_two_quiet_ones_remain(
    taken: list[tuple[float | None, float]], expected: float | None
) -> None:
    assert figures.median(samples(*taken), "rate") == expected


def test_ratios_are_of_one_round_each() -> None:
    mine = samples((10.0, 0.0), (40.0, 0.0), (90.0, 0.0))
    base = samples((100.0, 0.0), (200.0, 0.0), (300.0, 0.0), side=YARDSTICK)
    # 0.1, 0.2, 0.3; the ratio of the medians would be the same by chance alone, so take the middle round away
    assert figures.ratio(mine, base, "rate") == Ratio(0.2, 0.1, 0.3, 3)
    assert figures.ratio([mine[0], mine[2]], base[1:], "rate") == Ratio(0.3, 0.3, 0.3, 1)
    assert figures.ratio(mine, [], "rate") is None
    assert figures.ratio(mine, samples((0.0, 0.0), side=YARDSTICK), "rate") is None


def test_a_pair_is_disturbed_when_either_of_it_is() -> None:
    mine = samples((10.0, 0.0), (20.0, 0.0), (90.0, 0.9), (20.0, 0.0))
    base = samples((100.0, 0.0), (100.0, 0.0), (100.0, 0.0), (10.0, 0.9), side=YARDSTICK)
    assert figures.ratio(mine, base, "rate") == Ratio(0.15000000000000002, 0.1, 0.2, 2)
    assert figures.ratio(mine[1:], base[1:], "rate") == Ratio(0.9, 0.2, 2.0, 3)


# ------------------------------------------------------------------------------------------------------------- the promised lines


def verdicts(*changes: Change, without: tuple[str, ...] = (), python: str = "3.11") -> list[Line]:
    return lines.promised(rounds(*changes, without=without), python)


def opened(seconds: float) -> dict[str, float | None]:
    return {"seconds": seconds, "calls": 5_000.0}


def test_all_lines_are_met_by_rounds_that_meet_them() -> None:
    judged = verdicts()
    assert [line.what for line in judged if line.met is not True] == []
    assert [line.number for line in judged] == [1, 1, 1, 1, 2, 3, 3, 3, 4, 4, 4, 5, 5, 6, 6]


@pytest.mark.parametrize(
    ("cell", "just", "over", "line"),
    [
        (("unary-64", OURS), {"rate": 120_000.0}, {"rate": 119_000.0}, "Unary, 64 in flight, to bare_rpc"),
        (("unary-64", "grpc.aio"), {"rate": 7_000.0}, {"rate": 7_001.0}, "Unary, 64 in flight, to grpc.aio"),
        (("unary-512", OURS), {"rate": 150_000.0}, {"rate": 149_000.0}, "Unary, 512 in flight, to bare_rpc"),
        (("suspend", OURS), {"rate": 60_000.0}, {"rate": 59_900.0}, "A handler that suspends once, to bare_rpc's plain echo"),
        (("one-core", OURS), {"p50_us": 22.4}, {"p50_us": 22.5}, "Both processes on one core, one in flight: p50"),
        (("bulk", OURS), {"rate": 15_600.0}, {"rate": 15_500.0}, "64 KiB bodies, to bare_rpc"),
        (("stream", OURS), {"rate": 850_000.0}, {"rate": 849_000.0}, "One server stream, to bare_rpc"),
        (("tls", TLS), {"rate": 126_000.0}, {"rate": 125_000.0}, "TLS, 64 in flight, to our own plain rate"),
        (("memory", OURS), {"kib": 5.0}, {"kib": 5.1}, "Memory of an idle connection"),
        (("memory", TLS), {"kib": 22.0}, {"kib": 22.1}, "Memory of an idle TLS connection"),
        (
            ("open", OURS),
            opened(4.99),
            opened(5.0),
            "5,000 connections opened and called once",
        ),
        (("unary-64", "websockets"), {"rate": 139_999.0}, {"rate": 140_000.0}, "Ahead of every peer, 64 in flight"),
        (("unary-512", "aiohttp"), {"rate": 179_999.0}, {"rate": 180_001.0}, "Ahead of every peer, 512 in flight"),
        (("python-holdfast", "holdfast 3.12"), {"rate": 105_000.0}, {"rate": 104_000.0}, "Python 3.12 to 3.11, 64 in flight"),
        (("python-holdfast", "holdfast 3.13"), {"rate": 105_000.0}, {"rate": 104_000.0}, "Python 3.13 to 3.11, 64 in flight"),
    ],
)
def test_a_line_is_met_up_to_its_threshold_and_no_further(
    cell: tuple[str, str], just: dict[str, float | None], over: dict[str, float | None], line: str
) -> None:
    assert next(each for each in verdicts((cell, just)) if each.what == line).met is True
    unmet = [each.what for each in verdicts((cell, over)) if each.met is False]
    assert line in unmet
    assert len(unmet) == 1


def test_what_was_not_measured_is_neither_met_nor_unmet() -> None:
    assert {line.met for line in lines.promised([], "3.11")} == {None}
    assert all(line.figure == lines.NOTHING for line in lines.promised([], "3.11"))


def test_fewer_connections_than_promised_say_nothing() -> None:
    quick = verdicts((("open", OURS), {"seconds": 0.4, "calls": 500.0}))
    assert [line.what for line in quick if line.met is None] == ["5,000 connections opened and called once"]


def test_a_peer_that_is_missing_leaves_its_line_open_and_is_named() -> None:
    line = lines.ahead(rounds(without=("nats",)), 64)
    assert (line.met, line.figure) == (None, "aiohttp: 2.33 × (2.33–2.33); nats: –")
    behind = lines.ahead(rounds((("unary-64", "rpyc"), {"rate": 150_000.0}), without=("nats",)), 64)
    assert behind.met is False


def test_what_is_no_rpc_is_shown_beside_and_need_not_be_beaten() -> None:
    fast: Change = (("unary-64", "picows"), {"rate": 280_000.0})
    assert [line.what for line in verdicts(fast) if line.met is not True] == []
    assert lines.beside(rounds(fast)) == [("picows", 64, Ratio(0.5, 0.5, 0.5, 5)), ("picows", 512, Ratio(3.0, 3.0, 3.0, 5))]


def test_other_pythons_are_compared_with_the_one_that_is_judged_on() -> None:
    assert [line.met for line in verdicts(python="3.12") if line.number == 6] == [None, None]


def test_every_peer_has_a_promise_over_it() -> None:
    rivals = [name for name, peer in PEERS.items() if name not in (OURS, YARDSTICK) and not peer.beside]
    for name in rivals:
        changed: Change = (("unary-512", name), {"rate": 190_000.0})
        line = next(each for each in verdicts(changed) if each.what == "Ahead of every peer, 512 in flight")
        assert (line.met, line.figure.startswith(f"{name}: ")) == (False, True)
