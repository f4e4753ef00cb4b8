"""What a handler knows about its call."""

from __future__ import annotations

import pytest

from holdfast.context import CURRENT, Context, Peer, detached


class Clock:
    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time


class Base:
    pass


class Derived(Base):
    pass


def context(**more: object) -> Context:
    return Context(method="shop.place", peer=Peer("memory://1"), clock=Clock(), **more)  # type: ignore[arg-type]


def test_what_remains_shrinks_and_is_never_below_nothing() -> None:
    ctx = context(deadline_at=102.0)
    assert ctx.remaining() == 2.0
    ctx.clock.time = 101.5  # type: ignore[attr-defined]
    assert ctx.remaining() == 0.5
    ctx.clock.time = 103.0  # type: ignore[attr-defined]
    assert ctx.remaining() == 0.0
    assert context().remaining() is None


def test_a_state_is_found_by_its_type_or_a_base_of_it() -> None:
    made = Derived()
    ctx = context(states={Derived: made})
    assert ctx.state(Derived) is made
    assert ctx.state(Base) is made


def test_a_state_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(LookupError, match="yielded no Base; it yielded int, str"):
        context(states={str: "", int: 1}).state(Base)
    with pytest.raises(LookupError, match="it yielded nothing"):
        context().state(Base)


def test_a_context_does_not_change() -> None:
    with pytest.raises(AttributeError):
        context().method = "other"  # type: ignore[misc]


def test_detached_steps_out_and_back_in() -> None:
    class Call:
        deadline_at = 1.0
        trace = None

    call = Call()
    token = CURRENT.set(call)
    try:
        with pytest.raises(KeyError), detached():
            assert CURRENT.get() is None
            raise KeyError
        assert CURRENT.get() is call
    finally:
        CURRENT.reset(token)
