"""One Emit in front of many, so that a broken listener costs itself and nobody else.

Owned here: the isolation. What may never happen: an exception of one listener reaching a mechanism or silencing the others.
"""

from __future__ import annotations

from ..facts import Emit, Fact, discard


class EmitFailed(Fact, frozen=True):
    """A listener of facts raised. It is told nothing more; the others go on, and are told this."""

    listener: str
    error: BaseException


def fan_out(*emits: Emit) -> Emit:
    """Return an Emit that hands every fact to each of `emits`, in order.

    A listener that raises broke the rule that an Emit must not: it is taken out, and the others get an `EmitFailed`.
    """
    listeners = [emit for emit in emits if emit is not discard]
    if not listeners:
        return discard

    def emit_to_all(fact: Fact) -> None:
        failed: list[tuple[Emit, Exception]] = []
        for listener in listeners:
            try:
                listener(fact)
            except Exception as error:
                failed.append((listener, error))
        for listener, cause in failed:
            if listener in listeners:
                listeners.remove(listener)
                emit_to_all(EmitFailed(listener=_name(listener), error=cause))

    return emit_to_all


def _name(listener: Emit) -> str:
    return getattr(listener, "__qualname__", type(listener).__qualname__)
