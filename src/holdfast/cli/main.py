"""The group `holdfast`: finds the verb, runs it, and turns what happened into an exit code.

    0 good · 1 the call or the expectation failed · 2 usage · 3 cannot reach the server · 130 interrupted

Owned here: the exit codes and the one line that tells an error. What may never happen: a traceback in front of a person (HOLDFAST_DEBUG=1
brings it back), or the import of a verb that was not asked for, which is what keeps `--help` quick.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import click

from ..errors import ConfigError, HoldfastError, InvalidArgument, MethodNotFound, Unavailable
from .text import printable, suggestion

VERBS = {
    "bench": "Put load on a method, and measure it.",
    "call": "Call a method, or list what a server offers.",
    "check": "Print the settings, or the layers a call would pass.",
    "serve": "Put a service on the network.",
    "sim": "Run scenarios in many simulated worlds.",
}
"""Each verb lives in `cli/<verb>.py` as `command`. The line stands here too, so that the group's help imports none of them."""

EXAMPLES = """\b
Examples:
  holdfast serve shop:svc --bind tcp://127.0.0.1:7000
  holdfast call tcp://127.0.0.1:7000
  holdfast call tcp://127.0.0.1:7000 shop.place order.id=o-1 order.qty=2
  holdfast bench tcp://127.0.0.1:7000 shop.price sku=A-{i} --rate 2000/s
  holdfast serve --help

\b
Exit codes: 0 good, 1 call or expectation failed, 2 usage, 3 cannot reach, 130 interrupted.
HOLDFAST_DEBUG=1 shows the traceback of an error."""


class Verbs(click.Group):
    """A group that imports a verb only when it is run or its own help is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f".{cmd_name}", __package__)
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl(sorted(VERBS.items()))

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not args[0].startswith("-") and args[0] not in VERBS:
            near = suggestion(args[0], VERBS) or f"; the verbs are {', '.join(sorted(VERBS))}"
            raise click.UsageError(f"there is no verb {args[0]!r}{near}")
        return super().resolve_command(ctx, args)


def version_line() -> str:
    """`holdfast 0.1.0 · python 3.12.8`."""
    return f"holdfast {package_version()} · python {sys.version.split()[0]}"


def package_version() -> str:
    """The version of the installed package; `unknown` when it runs from a bare tree."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("holdfast")
    except PackageNotFoundError:
        return "unknown"


def _print_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        click.echo(version_line())
        ctx.exit()


@click.group(cls=Verbs, epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, callback=_print_version, expose_value=False, is_eager=True, help="Print the version and exit.")
def group() -> None:
    """Python services that stay up."""


def exit_code(error: BaseException) -> int:
    """The exit code an exception stands for."""
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return 130
    if isinstance(error, InvalidArgument | MethodNotFound | ConfigError | click.UsageError):
        return 2
    if isinstance(error, Unavailable):
        return 1 if error.remote else 3
    return error.exit_code if isinstance(error, click.ClickException) else 1


def error_line(error: BaseException) -> str:
    """One line for people: `holdfast: not_found: there is no order 'o-9'`."""
    if isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, HoldfastError):
        text = f"{error}" if isinstance(error, ConfigError) else f"{error.code}: {error}"
    else:
        text = f"{type(error).__name__}: {error} (HOLDFAST_DEBUG=1 shows where)"
    return "holdfast: " + printable(" ".join(text.split()))


def run(args: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; everything it has to say about errors is on stderr then."""
    try:
        # not group.main(): it takes any EOFError and KeyboardInterrupt for a user at a prompt, and writes an empty line
        with group.make_context("holdfast", list(sys.argv[1:] if args is None else args) or ["--help"]) as context:
            result = group.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except (KeyboardInterrupt, click.Abort):
        return 130
    except BrokenPipeError:
        return _reader_left()
    except OSError as error:
        return _reader_left() if error.errno == errno.EPIPE else _tell(error)
    except Exception as error:
        return _tell(error)
    return result if isinstance(result, int) else 0


def _tell(error: Exception) -> int:
    if os.environ.get("HOLDFAST_DEBUG", "") not in ("", "0"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        hint = f" (try: {error.ctx.command_path} --help)"
    else:
        hint = ""
    click.echo(error_line(error) + hint, err=True)
    return exit_code(error)


def _reader_left() -> int:
    """Whoever read our output stopped (`| head`). Point stdout elsewhere, or the interpreter complains when it flushes at exit."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, sys.stdout.fileno())
    return 1


def main() -> NoReturn:
    """The console script."""
    if sys.platform == "win32":
        click.echo("holdfast: Windows is not supported; use Linux (or WSL), or macOS to develop and test", err=True)
        sys.exit(2)
    sys.exit(run())
