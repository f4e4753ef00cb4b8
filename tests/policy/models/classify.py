"""The outcome of an error as a list of sentences, read from the top: the first that is true decides."""

from __future__ import annotations

from collections.abc import Callable

from holdfast.errors import HoldfastError

SENTENCES: list[tuple[Callable[[HoldfastError], bool], str]] = [
    (lambda e: not e.remote and e.connecting, "connect_failed"),
    (lambda e: e.fault == "caller", "caller_error"),
    (lambda e: e.remote and e.code == "resource_exhausted", "overload"),
    (lambda e: e.remote and e.code == "deadline_exceeded", "timeout"),
    (lambda e: e.remote and e.code in ("already_exists", "failed_precondition", "aborted", "out_of_range"), "caller_error"),
    (lambda e: e.remote, "server_error"),
    (lambda e: e.code == "cancelled", "cancelled"),
    (lambda e: e.code in ("resource_exhausted", "deadline_exceeded") and e.executed == "no", "local_reject"),
    (lambda e: e.executed == "no", "not_taken"),
    (lambda e: e.code == "resource_exhausted", "overload"),
    (lambda e: e.code == "deadline_exceeded", "timeout"),
    (lambda e: e.code == "unavailable", "lost"),
    (lambda e: e.executed == "maybe" and e.fault == "network", "lost"),
    (lambda e: True, "server_error"),
]


def outcome_of(error: HoldfastError) -> str:
    """The name of the row."""
    return next(name for holds, name in SENTENCES if holds(error))
