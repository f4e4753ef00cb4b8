"""The record of one attempt: nothing when nobody asks, times since the call began, and what it failed with."""

from __future__ import annotations

import pytest

from holdfast.errors import OutcomeUnknown
from holdfast.handler import CallRecord, MethodInfo, Request
from holdfast.policy.trial import begin_trial, end_trial


def request(record: CallRecord | None, deadline_at: float | None = 15.0) -> Request:
    return Request(MethodInfo("shop.price"), b"", False, deadline_at, 1, record=record)


def test_nobody_asks() -> None:
    asked = request(None)
    assert begin_trial(asked, "original", 11.0) is None
    end_trial(asked, None, 12.0, None)
    assert asked.trial is None


def test_times_count_from_when_the_call_began() -> None:
    record = CallRecord("shop.price", 1, 10.0, 5.0)
    asked = request(record)
    trial = begin_trial(asked, "retry", 11.0, backoff_s=0.25)
    assert trial is asked.trial is record.attempts[0]
    assert (trial.kind, trial.began_s, trial.backoff_s, trial.left_s, trial.outcome) == ("retry", 1.0, 0.25, 4.0, "")
    end_trial(asked, trial, 12.5, None)
    assert (trial.ended_s, trial.outcome, trial.executed) == (2.5, "ok", "")


def test_an_error_says_what_it_was_and_whether_it_ran() -> None:
    asked = request(CallRecord("shop.price", 1, 10.0, None), None)
    trial = begin_trial(asked, "original", 10.0)
    assert trial is not None
    assert trial.left_s is None
    end_trial(asked, trial, 11.0, OutcomeUnknown("the line broke"))
    assert (trial.outcome, trial.executed, trial.message) == ("unavailable", "maybe", "the line broke")


@pytest.mark.parametrize("outcome", ["superseded", "cancelled"])
def test_an_attempt_may_end_without_an_answer(outcome: str) -> None:
    asked = request(CallRecord("shop.price", 1, 10.0, None))
    trial = begin_trial(asked, "hedge", 10.0)
    assert trial is not None
    end_trial(asked, trial, 10.5, None, outcome)
    assert (trial.outcome, trial.message) == (outcome, "")
