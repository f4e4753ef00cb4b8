"""The options every verb takes, and what they mean for what is printed.

Owned here: `--json --no-color -q -v`, their HOLDFAST_* names, and the decision whether output is for a person. What may never happen: a
verb deciding about colour or terminals by itself.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from datetime import datetime
from typing import Any, TextIO, TypeVar

import click

from ..clock import SystemClock
from ..observe.log import JsonLog, Log, TextLog

F = TypeVar("F", bound=Callable[..., Any])


class Style:
    """How to print: `json` for machines, `colour` or not, how much."""

    def __init__(self, *, json: bool, no_color: bool, quiet: bool, verbose: bool) -> None:
        if quiet and verbose:
            raise click.UsageError("-q and -v contradict each other; give one")
        self.json = json
        self.quiet = quiet
        self.verbose = verbose
        self._no_color = no_color or bool(os.environ.get("NO_COLOR"))

    def colour(self, stream: TextIO) -> bool:
        """Whether to colour what goes to this stream: a terminal, and nobody said no."""
        return not self._no_color and os.environ.get("TERM") != "dumb" and is_terminal(stream)

    def log(self, stream: TextIO) -> Log:
        """The log for a stream: text on a terminal, JSON lines otherwise or when asked for."""
        if self.json or not is_terminal(stream):
            return JsonLog(stream, wall=wall, clock=SystemClock(), verbose=self.verbose, quiet=self.quiet)
        return TextLog(stream, wall=wall, clock=SystemClock(), colour=self.colour(stream), verbose=self.verbose, quiet=self.quiet)


def wall() -> datetime:
    """The time of day here, aware."""
    return datetime.now().astimezone()


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at this stream."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def env_option(*names: str, env: str, **attrs: Any) -> Callable[[F], F]:
    """A click option that can also be set as `HOLDFAST_<env>`, shown in the help."""
    return click.option(*names, envvar=f"HOLDFAST_{env}", show_envvar=True, **attrs)


def common_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give a verb `--json --no-color -q -v` and hand them over as one `style` argument."""

    @env_option("-v", "--verbose", env="VERBOSE", is_flag=True, help="Say more.")
    @env_option("-q", "--quiet", env="QUIET", is_flag=True, help="Say only what went wrong.")
    @env_option("--no-color", env="NO_COLOR", is_flag=True, help="No colours (NO_COLOR does the same).")
    @env_option("--json", "as_json", env="JSON", is_flag=True, help="Print JSON for programs.")
    @functools.wraps(verb)
    def wrapped(*args: Any, as_json: bool, no_color: bool, quiet: bool, verbose: bool, **kwargs: Any) -> Any:
        return verb(*args, style=Style(json=as_json, no_color=no_color, quiet=quiet, verbose=verbose), **kwargs)

    return wrapped
