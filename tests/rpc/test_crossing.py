"""What a handler raises says that the handler ran."""

from __future__ import annotations

import pytest

from holdfast.errors import HoldfastError, InternalError, InvalidArgument, NotFound, Overloaded, Refused
from holdfast.rpc.crossing import MAY_CROSS, as_executed


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
