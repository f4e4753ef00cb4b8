"""Facts are frozen values, and who does not listen is not told."""

from __future__ import annotations

import msgspec
import pytest

from holdfast import facts


def kinds() -> list[type[facts.Fact]]:
    return facts.Fact.__subclasses__()


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_a_fact_is_frozen_documented_and_has_fields(kind: type[facts.Fact]) -> None:
    assert kind.__struct_config__.frozen
    assert kind.__doc__
    assert kind.__struct_fields__


def test_a_fact_cannot_be_changed_and_compares_by_value() -> None:
    fact = facts.Stopped(2)
    assert fact == facts.Stopped(2) != facts.Stopped(3)
    with pytest.raises(AttributeError):
        fact.cut = 3  # type: ignore[misc]
    assert msgspec.to_builtins(fact) == {"cut": 2}


def test_nobody_wants_what_is_discarded() -> None:
    facts.discard(facts.Stopped(0))
    assert facts.wants(facts.discard, facts.CallEnded) is False
    assert facts.wants([].append, facts.CallEnded) is True


def test_an_emit_that_can_tell_is_asked() -> None:
    class OnlyStops:
        def __call__(self, fact: facts.Fact) -> None:
            raise AssertionError("not called in this test")

        def wants(self, kind: type[facts.Fact]) -> bool:
            return kind is facts.Stopped

    assert facts.wants(OnlyStops(), facts.Stopped) is True
    assert facts.wants(OnlyStops(), facts.CallEnded) is False
