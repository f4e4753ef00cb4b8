"""What a handler raises says that the handler ran."""

from __future__ import annotations

import pytest

from holdfast.errors import HoldfastError, InternalError, InvalidArgument, NotFound, Overloaded, Refused
from holdfast.handler import held_back, maybe_executed
from holdfast.rpc.crossing import MAY_CROSS, as_executed, may_cross


@pytest.mark.parametrize("error", [InvalidArgument("no such sku"), NotFound("no such order", retry_after_s=2.0)])
def test_what_says_no_by_itself_was_executed_when_a_handler_raises_it(error: HoldfastError) -> None:
    assert error.executed == "no"
    said = as_executed(error)
    assert (type(said), str(said), said.executed, said.retry_after_s) == (type(error), str(error), "yes", error.retry_after_s)


def test_a_refusal_keeps_its_code_and_details() -> None:
    said = as_executed(Refused("sold out", code="failed_precondition", details={"left": 0}))
    assert isinstance(said, Refused)
    assert (said.code, said.details) == ("failed_precondition", {"left": 0})


def test_a_handler_that_says_it_is_overloaded_did_nothing() -> None:
    error = Overloaded("come back later")
    assert as_executed(error) is error


def test_what_callers_may_not_see_is_not_among_them() -> None:
    assert InternalError not in MAY_CROSS
    assert not may_cross(InternalError("a bug"))


def test_only_what_the_handler_says_itself_crosses_and_not_how_a_call_that_it_made_ended() -> None:
    assert may_cross(Overloaded("come back later"))
    assert not may_cross(Overloaded("what a server answered", remote=True))
    held = held_back("what our own client did not send")
    assert not may_cross(held)
    assert not may_cross(maybe_executed(held, "an earlier attempt may have been executed"))
    explained = Overloaded("what a layer of somebody's refused")
    explained.record = object()
    assert not may_cross(explained)
