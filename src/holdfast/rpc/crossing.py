"""What a handler raises, as its caller may see it.

Owns: which errors may cross, and what they say of the call then. What may never happen here: the text of an error that its handler did not
mean for callers.
"""

from __future__ import annotations

from typing import TypeGuard

from ..errors import (
    HoldfastError,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    Refused,
    Unauthenticated,
)

MAY_CROSS = (Refused, InvalidArgument, NotFound, PermissionDenied, Unauthenticated, Overloaded)
"""What a handler may raise itself and its caller shall see as it is."""


def may_cross(error: BaseException) -> TypeGuard[HoldfastError]:
    """Whether a caller sees what a handler raised. Not how a call ended that *it* made: that one surely was not executed, it may say."""
    return isinstance(error, MAY_CROSS) and not error.remote and not error.held and error.record is None


def as_executed(error: HoldfastError) -> HoldfastError:
    """Return what a handler raised, saying that it ran: these classes say "no" by themselves, which is true of our refusals only.

    Overloaded keeps its "no": a handler that raises it says that it did nothing.
    """
    if error.executed != "no" or isinstance(error, Overloaded):
        return error
    kind = next(each for each in MAY_CROSS if isinstance(error, each))
    said = kind(error.message, executed="yes", retry_after_s=error.retry_after_s)
    said.code = error.code
    if isinstance(said, Refused) and isinstance(error, Refused):
        said.details = error.details
    return said
