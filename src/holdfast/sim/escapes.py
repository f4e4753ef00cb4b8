"""What the simulation says when a program leaves it, or when a world cannot go on.

Owns: the errors of `holdfast.sim`. What may never happen here: a message that does not say what to use instead.
"""

from __future__ import annotations

from ..errors import HoldfastError


class SimulationError(HoldfastError):
    """The root of what a simulated world raises about itself, and not about the program in it."""

    code = "failed_precondition"
    fault = "config"
    executed = "no"
    retry = "never"


class Escape(SimulationError):
    """The program reached for something outside the simulation: a thread, a subprocess, a real socket. The message says what to use."""


class Deadlock(SimulationError):
    """Nothing can ever run again: no callback is ready, no timer set, no packet under way. The message names the pending tasks."""


class Overrun(SimulationError):
    """The world did not end within its virtual time or its number of callbacks."""


class Killed(SimulationError):
    """The process that was waited for was killed, and has no result."""
