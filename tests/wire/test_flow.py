"""Budgets take all or nothing, alone and within one another."""

from __future__ import annotations

from holdfast.wire import ByteBudget, CallState, Flow
from holdfast.wire.flow import Outgoing


def test_a_budget_takes_all_or_nothing() -> None:
    budget = ByteBudget(10)
    assert budget.take(10)
    assert not budget.take(1)
    assert budget.take(0)
    budget.give(10)
    assert budget.used_bytes == 0


def test_a_budget_within_a_budget_charges_both_or_neither() -> None:
    process = ByteBudget(10)
    first, second = ByteBudget(8, process), ByteBudget(8, process)
    assert first.take(8)
    assert not second.take(3)
    assert (second.used_bytes, process.used_bytes) == (0, 8)
    assert second.take(2)
    first.give(8)
    assert process.used_bytes == 2


def test_a_stream_begins_with_the_windows_and_may_do_nothing_yet() -> None:
    flow = Flow(5000, 7000)
    assert (flow.send_credit, flow.receive_credit, flow.window) == (5000, 7000, 7000)
    assert [flow.sending, flow.receiving, flow.refused, flow.waiting] == [False] * 4


def test_what_goes_out_does_not_copy_its_body() -> None:
    body = bytes(1000)
    assert Outgoing(CallState(), 0x13, 0, body).body.obj is body
