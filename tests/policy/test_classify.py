"""The outcome table against a transcription of the reference, every error there is against its row, and what may be tried again."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast import errors
from holdfast.errors import (
    CODE_NAMES,
    BadReply,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    Executed,
    Fault,
    HoldfastError,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    Refused,
    Unauthenticated,
    Unavailable,
)
from holdfast.policy import classify as rows
from holdfast.policy.classify import OUTCOMES, Outcome, classify, why_not_again

GOLDEN = Path(__file__).parent / "golden" / "classify.json"

# The table of reference algorithms.md 2.0, word for word.
REFERENCE = """
| success | RTT | RTT | success | deposit (per *original* call) | sample | accept |
| app error (caller's fault: 4xx, INVALID_ARGUMENT) | RTT | RTT | **success** | deposit | sample | accept |
| server error (5xx, INTERNAL) | max(RTT, penalty 5 s) | no (fast failure skews low) | failure | retry withdraws | ignore if fast, else sample | accept (it did work) |
| attempt timeout | elapsed, as a peak | elapsed | failure | retry withdraws | dropped | not accepted |
| caller cancelled | elapsed only if > estimate | no | **ignorable** | nothing | ignore | count request, not accept |
| hedge loser, superseded | elapsed (lower bound) | elapsed | ignorable | nothing | ignore | nothing |
| connect refused / TLS failure | penalty | no | connect failure (own counter) | transparent retry, cap 1 per host | ignore | nothing |
| overload NACK / 429 / RESOURCE_EXHAUSTED | Retry-After (cap 300 s) or penalty | no | ratio yes, **consecutive no**, fails a probe | retry withdraws; obey push-back | dropped (client-side AIMD) | **reject** |
| local reject (budget, breaker, queue full, never sent) | no | no | no | no | no | count request |
"""  # noqa: E501

NAMES = ("ok", "caller_error", "server_error", "timeout", "cancelled", "superseded", "connect_failed", "overload", "local_reject")

# What the reference's words are called here, column by column.
WORDS: dict[str, dict[str, str]] = {
    "latency": {
        "RTT": "took",
        "max(RTT, penalty 5 s)": "penalty",
        "elapsed, as a peak": "peak",
        "elapsed only if > estimate": "at_least",
        "elapsed (lower bound)": "at_least",
        "penalty": "penalty",
        "Retry-After (cap 300 s) or penalty": "retry_after",
        "no": "nothing",
    },
    "hedge": {"RTT": "took", "elapsed": "took", "no": "nothing", "no (fast failure skews low)": "nothing"},
    "breaker": {
        "success": "success",
        "failure": "failure",
        "ignorable": "ignore",
        "no": "ignore",
        "connect failure (own counter)": "connect_failure",
        "ratio yes, consecutive no, fails a probe": "overload",
    },
    "budget": {
        "deposit (per *original* call)": "succeeded",
        "deposit": "succeeded",
        "retry withdraws": "withdraw",
        "retry withdraws; obey push-back": "withdraw",
        "transparent retry, cap 1 per host": "withdraw",
        "nothing": "nothing",
        "no": "nothing",
    },
    "limit": {
        "sample": "took",
        "ignore if fast, else sample": "took_if_slow",
        "dropped": "dropped",
        "dropped (client-side AIMD)": "dropped",
        "ignore": "ignore",
        "no": "ignore",
    },
    "throttle": {
        "accept": "accepted",
        "accept (it did work)": "accepted",
        "not accepted": "not_accepted",
        "count request, not accept": "not_accepted",
        "count request": "not_accepted",
        "reject": "not_accepted",
        "nothing": "nothing",
    },
}


def reference_rows() -> list[tuple[str, dict[str, str]]]:
    """The reference's table in our words."""
    found = []
    for name, line in zip(NAMES, REFERENCE.strip().splitlines(), strict=True):
        cells = [cell.strip().replace("**", "") for cell in line.strip("|").split("|")][1:]
        found.append((name, {column: WORDS[column][cell] for column, cell in zip(WORDS, cells, strict=True)}))
    return found


def columns(outcome: Outcome) -> dict[str, str]:
    return {column: getattr(outcome, column) for column in WORDS}


@pytest.mark.parametrize(("name", "expected"), reference_rows(), ids=NAMES)
def test_a_row_is_that_of_the_reference(name: str, expected: dict[str, str]) -> None:
    assert columns(next(row for row in OUTCOMES if row.name == name)) == expected


def test_the_rows_that_the_reference_does_not_have_are_these() -> None:
    assert sorted(row.name for row in OUTCOMES if row.name not in NAMES) == ["lost", "not_taken"]
    # A broken connection: the node failed, and nothing was learned of how long calls take or whether they are wanted.
    assert list(columns(rows.LOST).values()) == ["penalty", "nothing", "failure", "withdraw", "ignore", "nothing"]
    # A call that surely reached nobody counts for nobody.
    assert list(columns(rows.NOT_TAKEN).values()) == ["nothing", "nothing", "ignore", "withdraw", "ignore", "nothing"]


def test_every_constant_is_in_the_list_once_and_named_as_it_is() -> None:
    constants = {name.lower(): value for name, value in vars(rows).items() if isinstance(value, Outcome)}
    assert {row.name: row for row in OUTCOMES} == constants
    assert len(OUTCOMES) == len(constants)


# ------------------------------------------------------------------------------------------------------- errors to rows


def connecting(error: HoldfastError) -> HoldfastError:
    error.connecting = True
    return error


CASES: list[tuple[HoldfastError, Outcome]] = [
    (InvalidArgument(remote=True), rows.CALLER_ERROR),
    (NotFound(remote=True), rows.CALLER_ERROR),
    (MethodNotFound(remote=True), rows.CALLER_ERROR),
    (Unauthenticated(remote=True), rows.CALLER_ERROR),
    (PermissionDenied(remote=True), rows.CALLER_ERROR),
    (Refused(remote=True), rows.CALLER_ERROR),
    (Refused(code="internal", remote=True), rows.CALLER_ERROR),
    (Refused(code="resource_exhausted", remote=True), rows.CALLER_ERROR),
    (NotFound(), rows.CALLER_ERROR),
    (Refused(), rows.CALLER_ERROR),
    (InternalError(remote=True), rows.SERVER_ERROR),
    (InternalError(), rows.SERVER_ERROR),
    (BadReply(remote=True), rows.SERVER_ERROR),
    (BadReply(), rows.SERVER_ERROR),
    (HoldfastError(remote=True), rows.SERVER_ERROR),
    (HoldfastError(), rows.SERVER_ERROR),
    (Unavailable(remote=True), rows.SERVER_ERROR),
    (OutcomeUnknown(remote=True), rows.SERVER_ERROR),
    (Cancelled(remote=True), rows.SERVER_ERROR),
    (ConfigError(remote=True), rows.CALLER_ERROR),
    (ProtocolError(executed="yes"), rows.SERVER_ERROR),
    (DeadlineExceeded(), rows.TIMEOUT),
    (DeadlineExceeded(remote=True), rows.TIMEOUT),
    (DeadlineExceeded(executed="no", remote=True), rows.TIMEOUT),
    (DeadlineExceeded(executed="no"), rows.LOCAL_REJECT),
    (Overloaded(remote=True), rows.OVERLOAD),
    (Overloaded(retry_after_s=0.1, remote=True), rows.OVERLOAD),
    (Overloaded(executed="yes", remote=True), rows.OVERLOAD),
    (Overloaded(), rows.LOCAL_REJECT),
    (Overloaded(executed="maybe"), rows.OVERLOAD),
    (OutcomeUnknown(), rows.LOST),
    (Unavailable(executed="maybe"), rows.LOST),
    (ProtocolError(), rows.LOST),
    (Unavailable(), rows.NOT_TAKEN),
    (ProtocolError(executed="no"), rows.NOT_TAKEN),
    (ConfigError(), rows.NOT_TAKEN),
    (Cancelled(), rows.CANCELLED),
    (connecting(Unavailable()), rows.CONNECT_FAILED),
    (connecting(ConfigError()), rows.CONNECT_FAILED),
    (connecting(ProtocolError(executed="no")), rows.CONNECT_FAILED),
    (connecting(DeadlineExceeded(executed="no")), rows.CONNECT_FAILED),
    # The server we reached has nobody behind it to reach: that is its own failure, and not our connection's.
    (connecting(Unavailable(remote=True)), rows.SERVER_ERROR),
]


def facts_of(error: HoldfastError) -> str:
    side = "remote" if error.remote else "local"
    return f"{type(error).__name__}-{error.code}-{error.executed}-{side}{'-connecting' if error.connecting else ''}"


@pytest.mark.parametrize(("error", "row"), CASES, ids=[facts_of(error) for error, _ in CASES])
def test_an_error_has_its_row(error: HoldfastError, row: Outcome) -> None:
    assert classify(error).name == row.name


def kinds() -> list[type[HoldfastError]]:
    """Every class of errors.py."""
    return [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, HoldfastError)]


def every_error() -> list[HoldfastError]:
    """Every class as it is raised, and with every fact that an instance may narrow."""
    found = []
    for kind, executed, remote, is_connecting in itertools.product(kinds(), (None, *get_args(Executed)), (False, True), (False, True)):
        error = kind("x", executed=executed, remote=remote)
        error.connecting = is_connecting
        found.append(error)
    return found


def test_the_table_is_total_and_golden() -> None:
    decided = {facts_of(error): classify(error).name for error in every_error()}
    assert len(kinds()) == 16
    assert decided == json.loads(GOLDEN.read_text("utf-8"))


def test_the_class_says_nothing_that_the_facts_do_not() -> None:
    for error in every_error():
        plain = HoldfastError("x", remote=error.remote)
        plain.code, plain.fault, plain.executed, plain.connecting = error.code, error.fault, error.executed, error.connecting
        assert classify(plain) is classify(error), facts_of(error)


@given(
    st.sampled_from([*CODE_NAMES, "a_code_of_tomorrow"]),
    st.sampled_from(get_args(Fault)),
    st.sampled_from(get_args(Executed)),
    st.booleans(),
    st.booleans(),
)
def test_whatever_the_facts_are_there_is_a_row_and_it_makes_sense(
    code: str, fault: Fault, executed: Executed, remote: bool, lost: bool
) -> None:
    error = HoldfastError("x", remote=remote)
    error.code, error.fault, error.executed, error.connecting = code, fault, executed, lost  # type: ignore[assignment]
    row = classify(error)
    assert row in OUTCOMES
    assert row not in (rows.OK, rows.SUPERSEDED), "an error is neither"
    if remote:
        assert row not in (rows.LOCAL_REJECT, rows.NOT_TAKEN, rows.CONNECT_FAILED, rows.LOST, rows.CANCELLED), "the server did answer"
    if row is rows.NOT_TAKEN or row is rows.LOCAL_REJECT:
        assert executed == "no"


# ------------------------------------------------------------------------------------------------- what may be tried again


@pytest.mark.parametrize(
    ("error", "plain", "idempotent"),
    [
        (Unavailable(), "", ""),
        (Overloaded(), "", ""),
        (OutcomeUnknown(), "not_idempotent", ""),
        (DeadlineExceeded(), "not_idempotent", ""),
        (DeadlineExceeded(executed="no"), "", ""),
        (Unavailable(executed="maybe"), "not_idempotent", ""),
        (ProtocolError(), "not_idempotent", ""),
        (ProtocolError(executed="no"), "", ""),
        (Overloaded(executed="yes"), "never", "never"),
        (Refused("no"), "never", "never"),
        (InvalidArgument(), "never", "never"),
        (InternalError(), "never", "never"),
        (Cancelled(), "never", "never"),
        (BadReply(), "never", "never"),
        (ConfigError(), "never", "never"),
    ],
    ids=lambda value: facts_of(value) if isinstance(value, HoldfastError) else str(value),
)
def test_what_may_have_run_goes_again_only_when_it_is_idempotent(error: HoldfastError, plain: str, idempotent: str) -> None:
    assert why_not_again(error, 1, 3, idempotent=False) == plain
    assert why_not_again(error, 1, 3, idempotent=True) == idempotent


def test_an_error_that_says_safe_and_maybe_is_taken_for_maybe() -> None:
    error = Unavailable()
    error.executed = "maybe"
    assert why_not_again(error, 1, 3, idempotent=False) == "not_idempotent"


@pytest.mark.parametrize(
    ("attempt", "left_s", "backoff_s", "why"),
    [
        (2, None, 60.0, ""),
        (3, None, 0.0, "attempts"),
        (4, 1.0, 0.0, "attempts"),
        (1, 1.0, 0.99, ""),
        (1, 1.0, 1.0, "deadline"),
        (1, 0.0, 0.0, "deadline"),
        (1, -1.0, 0.0, "deadline"),
        (3, 1.0, 2.0, "attempts"),
    ],
)
def test_attempts_are_counted_and_no_pause_reaches_beyond_the_deadline(
    attempt: int, left_s: float | None, backoff_s: float, why: str
) -> None:
    assert why_not_again(Unavailable(), attempt, 3, idempotent=False, left_s=left_s, backoff_s=backoff_s) == why


def test_what_the_error_says_comes_before_what_we_count() -> None:
    assert why_not_again(Refused(), 3, 3, idempotent=True, left_s=0.0) == "never"
    assert why_not_again(OutcomeUnknown(), 3, 3, idempotent=False, left_s=0.0) == "not_idempotent"
