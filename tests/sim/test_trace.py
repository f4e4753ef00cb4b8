"""A digest is of everything that happened, whoever asks for it when."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sim import trace as trace_module
from holdfast.sim.trace import Trace

events = st.lists(
    st.tuples(
        st.floats(0, 1e6), st.sampled_from(["run", "data"]), st.sampled_from(["a", "b"]), st.none() | st.integers(0, 2**70) | st.text()
    ),
    max_size=40,
)


def of(these: list[tuple[float, str, str, Any]], keep_max: int | None = None, ask_at: int = -1) -> Trace:
    made = Trace(keep_max)
    for n, event in enumerate(these):
        made.add(*event)
        if n == ask_at:
            made.digest()
        made.trim()
    return made


@given(events, st.integers(0, 40))
def test_asking_in_between_changes_nothing(these: list[Any], ask_at: int) -> None:
    assert of(these, ask_at=ask_at).digest() == of(these).digest()


@given(events)
def test_forgetting_the_oldest_does_not_change_the_digest(these: list[Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trace_module, "_CHUNK", 4)
        whole, short = of(these), of(these, keep_max=3)
        assert short.digest() == whole.digest()
        assert len(short) == len(whole) == len(these)
        assert short.events == these[short.dropped :]
        assert len(short.events) <= 3 + 4 + 4


@given(events, st.data())
def test_every_part_of_every_event_counts(these: list[Any], data: st.DataObject) -> None:
    if not these:
        return
    at = data.draw(st.integers(0, len(these) - 1))
    when, kind, host, detail = these[at]
    for other in (
        (when + 1, kind, host, detail),
        (when, kind + "x", host, detail),
        (when, kind, host + "x", detail),
        (when, kind, host, "?!"),
    ):
        assert of([*these[:at], other, *these[at + 1 :]]).digest() != of(these).digest()
    assert of([*these[:at], *these[at + 1 :]]).digest() != of(these).digest()


def test_the_digest_does_not_depend_on_who_else_holds_a_string() -> None:
    name = "host" + str(id(object()))[:0]
    one, other = Trace(), Trace()
    one.add(1.0, name, name, name)
    other.add(1.0, "".join(["ho", "st"]), "".join(["ho", "st"]), "".join(["ho", "st"]))
    assert one.digest() == other.digest()
    assert len(one.digest()) == 32
