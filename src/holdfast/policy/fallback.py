"""Something else instead of an error: a value, or a function that makes one, when a call could not be made.

Owns: when that is right. A fallback stands for an answer that could not be had: the server was not there, had too much to do, or took too
long. It never stands for the server's own no, and never hides that a call which may take effect only once may have taken it: that call
failed with an unknown outcome, and whoever made it must hear so.

Layers see encoded bytes, so the layer is given the way from a value to a reply; a roof asks `Fallbacks.choose` where it has decoded values
and gives the caller the very object. What may never happen here: an await outside of the layer, a fallback that nobody counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, get_args

import msgspec

from ..errors import CODE_NAMES, CodeName, ConfigError, HoldfastError
from ..facts import Emit, FallbackUsed, discard
from ..handler import Handler, Layer, Mode, Reply, Request

NO_ANSWER: tuple[CodeName, ...] = ("unavailable", "resource_exhausted", "deadline_exceeded")
"""The codes of calls that got no answer."""


class Fallback(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller is given instead of an error.

    Attributes:
        value: this, as it is.
        make: or what this function returns for the error; it must not wait. What it raises reaches the caller.
        on: the codes it stands in for.
    """

    value: Any = None
    make: Callable[[HoldfastError], Any] | None = None
    on: tuple[CodeName, ...] = NO_ANSWER

    def __post_init__(self) -> None:
        unknown = [code for code in self.on if code not in CODE_NAMES]
        if unknown or not self.on:
            raise ConfigError(f"on={self.on!r} must be codes among {', '.join(CODE_NAMES)}")
        if self.make is not None and not callable(self.make):
            raise ConfigError(f"make={self.make!r} must be a function of the error; a plain value is value=")

    def applies(self, error: HoldfastError, *, idempotent: bool) -> bool:
        """Whether it may stand in for this error of a call that is, or is not, idempotent."""
        return error.code in self.on and (idempotent or error.executed == "no")

    def instead(self, error: HoldfastError) -> Any:
        """What the caller is given instead of this error."""
        return self.value if self.make is None else self.make(error)


def as_fallback(given: Any) -> Fallback:
    """Return what a user wrote as a Fallback: one as it is, a function as `make`, anything else as `value`."""
    if isinstance(given, Fallback):
        return given
    return Fallback(make=given) if callable(given) else Fallback(value=given)


class FallbackConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Fallbacks of single methods.

    Attributes:
        mode: `enforce` gives them, `shadow` counts where it would have, `off` does neither.
        values: by the method's name: a value, a function of the error, or a Fallback. None by default: what stands for an answer only the
            user can know.
    """

    mode: Mode = "enforce"
    values: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        if self.mode not in get_args(Mode):
            raise ConfigError(f"mode={self.mode!r} must be one of {', '.join(get_args(Mode))}")


class Fallbacks:
    """The fallbacks of one client, and how often they were used.

    Attributes:
        used: errors that a fallback stood in for.
        would: errors that one would have stood in for, had it been enforced.
    """

    __slots__ = ("_by_method", "_emit", "mode", "used", "would")

    def __init__(self, config: FallbackConfig, emit: Emit = discard) -> None:
        self.mode = config.mode
        self.used = 0
        self.would = 0
        self._by_method = {method: as_fallback(given) for method, given in config.values.items()}
        self._emit = emit

    def choose(self, method: str, error: HoldfastError, *, idempotent: bool, own: Fallback | None = None) -> Fallback | None:
        """Return the fallback for a call that failed, and count it; None when the caller must have the error.

        Args:
            own: what was asked for with this very call; it stands over the configured one.
        """
        fallback = own if own is not None else self._by_method.get(method)
        if fallback is None or self.mode == "off" or not fallback.applies(error, idempotent=idempotent):
            return None
        if self.mode == "shadow":
            self.would += 1
            self._emit(FallbackUsed(method, error.code, enforced=False))
            return None
        self.used += 1
        self._emit(FallbackUsed(method, error.code))
        return fallback


def fallback_layer(fallbacks: Fallbacks, as_reply: Callable[[Any], Reply]) -> Layer:
    """Return the layer that answers with a fallback where there is one; `as_reply` encodes a value. A stream has none."""

    def layer(handler: Handler) -> Handler:
        async def send(request: Request) -> Reply:
            """Cancel: the call is cancelled; a cancel is no failure, and nothing stands in for it."""
            try:
                return await handler(request)
            except HoldfastError as error:
                fallback = None
                if request.stream is None:
                    fallback = fallbacks.choose(request.info.name, error, idempotent=request.may_repeat)
                if fallback is None:
                    raise
                return as_reply(fallback.instead(error))

        return send

    return layer
