"""Every error holdfast raises, with the facts that retry, breakers and metrics read.

    HoldfastError                      code                 fault    executed  retry
    ├── InvalidArgument                invalid_argument     caller   no        never
    ├── NotFound                       not_found            caller   no        never
    │   └── MethodNotFound             unimplemented        caller   no        never
    ├── Unauthenticated                unauthenticated      caller   no        never
    ├── PermissionDenied               permission_denied    caller   no        never
    ├── Refused                        (given)              caller   yes       never
    ├── Overloaded                     resource_exhausted   server   no        safe
    ├── Unavailable                    unavailable          network  no        safe
    ├── OutcomeUnknown                 unavailable          network  maybe     if_idempotent
    ├── DeadlineExceeded (TimeoutError) deadline_exceeded   network  maybe     if_idempotent
    ├── Cancelled                      cancelled            server   maybe     never
    ├── InternalError                  internal             server   maybe     never
    ├── BadReply                       data_loss            server   yes       never
    ├── ProtocolError                  internal             network  maybe     if_idempotent
    └── ConfigError                    failed_precondition  config   no        never

This file imports nothing of ours and decides nothing: the facts stand on the class, an instance may narrow them (an error that came
over the wire carries what the server said), and `policy` is the only place that acts on them. No leaf without a raise site and a test.

`executed` answers the question a caller has after a failure: did my function run? *no* means surely not, *maybe* means nobody on this
side can know. `retry` is `safe` only where `executed` is surely no.
"""

from __future__ import annotations

from typing import Literal, TypeVar, get_args

import msgspec

T = TypeVar("T")

CodeName = Literal[
    "cancelled",
    "unknown",
    "invalid_argument",
    "deadline_exceeded",
    "not_found",
    "already_exists",
    "permission_denied",
    "resource_exhausted",
    "failed_precondition",
    "aborted",
    "out_of_range",
    "unimplemented",
    "internal",
    "unavailable",
    "data_loss",
    "unauthenticated",
]
"""gRPC's sixteen names (ok is not an error). The numbers are the wire's business: `rpc/codes.py`."""

CODE_NAMES: tuple[CodeName, ...] = get_args(CodeName)

Fault = Literal["caller", "server", "network", "config"]
Executed = Literal["no", "maybe", "yes"]
Retry = Literal["never", "if_idempotent", "safe"]


class HoldfastError(Exception):
    """The root of everything holdfast raises on purpose.

    Attributes:
        code: one of the sixteen names.
        fault: whose fault it was.
        executed: whether the handler ran: `no` (surely not), `maybe`, `yes`.
        retry: whether calling again may be right, from the facts alone.
        retry_after_s: how long the server asks us to wait, in seconds; None when it did not say.
        remote: True when the peer sent this error; it then says nothing about *our* caller's call.
        connecting: True when there was no connection to send it over, and making one failed.
        held: True when our own client held the call back, having enough to do; as with `remote`, this says nothing of *our* caller's call.
        record: the CallRecord of the call it ended, which explains it; None when there was none.
    """

    code: CodeName = "unknown"
    fault: Fault = "server"
    executed: Executed = "maybe"
    retry: Retry = "never"

    def __init__(
        self,
        message: str = "",
        *,
        executed: Executed | None = None,
        retry_after_s: float | None = None,
        remote: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s
        self.remote = remote
        self.connecting = False
        self.held = False
        self.record: object = None
        if executed is not None and executed != self.executed:
            self.executed = executed
            if self.retry != "never":
                self.retry = "safe" if executed == "no" else "if_idempotent" if executed == "maybe" else "never"

    def __str__(self) -> str:
        return self.message or self.code


class InvalidArgument(HoldfastError):
    """An argument is missing, unknown, of the wrong type or too large. The message names the field by its path."""

    code: CodeName = "invalid_argument"
    fault: Fault = "caller"
    executed: Executed = "no"


class NotFound(HoldfastError):
    """What the call names does not exist."""

    code: CodeName = "not_found"
    fault: Fault = "caller"
    executed: Executed = "no"


class MethodNotFound(NotFound):
    """The server has no such method that we may see. The message suggests the nearest name."""

    code: CodeName = "unimplemented"


class Unauthenticated(HoldfastError):
    """The server does not know who is calling."""

    code: CodeName = "unauthenticated"
    fault: Fault = "caller"
    executed: Executed = "no"


class PermissionDenied(HoldfastError):
    """The server knows who is calling and says no."""

    code: CodeName = "permission_denied"
    fault: Fault = "caller"
    executed: Executed = "no"


class Refused(HoldfastError):
    """A handler said no in its own words: the one error whose text and details cross to the caller as they are.

    Args:
        code: one of the sixteen names; `failed_precondition` unless given.
        message: what the caller reads.
        details: a msgspec Struct, dataclass or plain data. On the calling side `details` is plain data and
            `details_as(Type)` gives it typed and validated.
    """

    code: CodeName = "failed_precondition"
    fault: Fault = "caller"
    executed: Executed = "yes"

    def __init__(
        self,
        message: str = "",
        *,
        code: CodeName = "failed_precondition",
        details: object = None,
        executed: Executed | None = None,
        retry_after_s: float | None = None,
        remote: bool = False,
    ) -> None:
        if code not in CODE_NAMES:
            raise ValueError(f"code={code!r} is not one of {', '.join(CODE_NAMES)}")
        super().__init__(message, executed=executed, retry_after_s=retry_after_s, remote=remote)
        self.code = code
        self.details = details

    def details_as(self, type_: type[T]) -> T:
        """Return `details` as `type_`.

        Raises: InvalidArgument when the details do not fit the type; the message names the field.
        """
        if isinstance(self.details, type_):
            return self.details
        try:
            return msgspec.convert(self.details, type_)
        except msgspec.ValidationError as error:
            raise InvalidArgument(f"the details of this refusal are not a {type_.__name__}: {error}") from error


class Overloaded(HoldfastError):
    """The server (or we ourselves) would not take the call on. It was surely not executed."""

    code: CodeName = "resource_exhausted"
    fault: Fault = "server"
    executed: Executed = "no"
    retry: Retry = "safe"


class Unavailable(HoldfastError):
    """No connection, or one that ended before the call was sent. The call was surely not executed."""

    code: CodeName = "unavailable"
    fault: Fault = "network"
    executed: Executed = "no"
    retry: Retry = "safe"


class OutcomeUnknown(HoldfastError):
    """The connection was lost after the call was sent: it may have been executed, and may still take effect."""

    code: CodeName = "unavailable"
    fault: Fault = "network"
    executed: Executed = "maybe"
    retry: Retry = "if_idempotent"


class DeadlineExceeded(HoldfastError, TimeoutError):
    """The time the caller gave ran out. `executed` says whether the call had left us by then."""

    code: CodeName = "deadline_exceeded"
    fault: Fault = "network"
    executed: Executed = "maybe"
    retry: Retry = "if_idempotent"


class Cancelled(HoldfastError):
    """The far side cancelled the call by itself. (Our own cancellation is asyncio.CancelledError, as everywhere.)"""

    code: CodeName = "cancelled"
    fault: Fault = "server"
    executed: Executed = "maybe"


class InternalError(HoldfastError):
    """The handler raised something it did not mean for callers. The message carries an id to find in the server's log."""

    code: CodeName = "internal"
    fault: Fault = "server"
    executed: Executed = "maybe"


class BadReply(HoldfastError):
    """The server answered, and the answer is not of the type we were promised. The message names the field."""

    code: CodeName = "data_loss"
    fault: Fault = "server"
    executed: Executed = "yes"


class ProtocolError(HoldfastError):
    """The peer broke the protocol, or speaks another one. The connection is over."""

    code: CodeName = "internal"
    fault: Fault = "network"
    executed: Executed = "maybe"
    retry: Retry = "if_idempotent"


class ConfigError(HoldfastError):
    """Something we were given at start cannot work. The message says what, and what to write instead."""

    code: CodeName = "failed_precondition"
    fault: Fault = "config"
    executed: Executed = "no"
