"""The merged way and the walked stack: the same calls, on the same day, with the same dice, are decided alike to the last bit."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from tests.calling.traces import PLOTS, Way, as_text, path_of, play, read

MUST_HAVE: dict[str, list[str]] = {
    "only": ["NodeChanged"],
    "slow": ["CallHedged"],
    "busy": ["CallRetried"],
    "broken": ["BreakerChanged"],
    "lost": ["CallRetried", "RetryDenied"],
    "leaving": ["NodeChanged"],
    "refusing": ["NodeChanged"],
    "storm": ["CallHeldBack", "CallRetried", "RetryDenied"],
    "short": ["CallHedged", "RetryDenied"],
    "hedged": ["CallHedged"],
    "robin": ["CallRetried"],
}
"""What a plot is there for: without these facts it would prove nothing."""


@pytest.mark.parametrize("way", get_args(Way))
@pytest.mark.parametrize("name", PLOTS)
def test_it_decides_as_written_down(name: str, way: Way) -> None:
    played, golden = play(PLOTS[name], way), read(name)
    for part in golden:
        assert played[part] == golden[part], part
    assert played.keys() == golden.keys()


def kinds(golden: dict[str, Any]) -> set[str]:
    return {fact[1] for fact in golden["facts"]}


@pytest.mark.parametrize("name", MUST_HAVE)
def test_what_a_plot_is_about_happens_in_it(name: str) -> None:
    assert kinds(read(name)) >= set(MUST_HAVE[name])


def test_there_is_a_file_for_each_plot_and_no_other() -> None:
    assert sorted(path_of("x").parent.glob("*.json")) == sorted(map(path_of, PLOTS))
    for name in PLOTS:
        assert path_of(name).read_text("utf-8") == as_text(read(name))


@pytest.mark.parametrize("name", PLOTS)
def test_every_call_has_one_end_and_no_more_attempts_than_it_may(name: str) -> None:
    """The files are written by the client itself; this is what must hold of them whoever writes them."""
    golden, plot = read(name), PLOTS[name]
    ended = [end[0] for end in golden["ends"]]
    assert ended == list(range(len(ended)))
    assert len(ended) == int(plot.seconds * plot.calls_per_s)
    sent: dict[int, list[list[Any]]] = {}
    for attempt in golden["attempts"]:
        sent.setdefault(attempt[2], []).append(attempt)
    assert all(len(attempts) <= 3 for attempts in sent.values())
    extra = sum(len(attempts) - 1 for attempts in sent.values())
    assert extra <= golden["state"]["budget"][1], "an attempt that the budget has not seen"
    codes = [fact for fact in golden["facts"] if fact[1] == "CallEnded"]
    assert len(codes) == len(ended)


@pytest.mark.parametrize("name", ["lost", "refusing", "broken"])
def test_nothing_that_is_not_idempotent_reaches_two_nodes(name: str) -> None:
    golden = read(name)
    puts = {end[0] for end in golden["ends"] if end[0] % 3 == 0}
    seen: dict[int, int] = {}
    for _, _, number, _ in golden["attempts"]:
        seen[number] = seen.get(number, 0) + 1
    twice = [end for end in golden["ends"] if end[0] in puts and seen.get(end[0], 0) > 1]
    assert not twice
    unsent = [end for end in golden["ends"] if len(end) > 3 and end[3] == "no" and "refused" in end[4]]
    assert all(end[0] not in seen for end in unsent), "said not to be executed, and a node has it in its log"
