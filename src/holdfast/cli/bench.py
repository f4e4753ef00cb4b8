"""`holdfast bench ADDRESS METHOD [ARGS…]`: load on a method, and what came of it.

Owned here: the options, the order of things (reach the server, read the words by the method's schema, run, judge, print) and what is
printed where. The load itself is `tools/load`. What may never happen: a result that Ctrl-C takes away; what was counted is printed first.
"""

from __future__ import annotations

import asyncio
import functools
import shlex
import sys
from typing import Any, NamedTuple

import click
import msgspec

from ..client import connect
from ..errors import ConfigError, HoldfastError, InvalidArgument
from ..net.trust import TlsConfig
from ..runtime.lifecycle import run_until_signal
from ..runtime.signals import Signals
from ..tasks import Scope
from ..tools.load.calls import Target, check_shape
from ..tools.load.compare import comparison_lines
from ..tools.load.document import (
    Document,
    SearchDocument,
    SearchStep,
    Subject,
    encode_document,
    make_document,
    read_document,
    search_step,
)
from ..tools.load.fleet import Fleet
from ..tools.load.generate import sample_words
from ..tools.load.judge import Expectation, also_expected, judge_all, parse_expectations
from ..tools.load.messages import Job, Tls
from ..tools.load.page import result_page
from ..tools.load.plan import OUTSTANDING_MAX, RATE_DEFAULT_PER_S, Plan
from ..tools.load.report import progress_line, result_lines, search_line, search_lines, warnings
from ..tools.load.run import Progress
from ..tools.load.scenario import load_scenario
from ..tools.load.search import MaxSearch
from ..tools.load.tally import Measured
from .arguments import parse_arguments
from .call import WHOLE_MAX_BYTES, parse_metadata, reach, signature_of, unknown_method
from .options import Style, common_options, env_option, is_terminal
from .pipes import read_whole
from .results import error_bytes
from .text import printable
from .tls import call_tls_options
from .values import DURATION, RATE, format_duration, parse_duration, parse_rate

SEARCH_DURATION_S = 5.0
DURATION_S = 10.0

EPILOG = """\b
Arguments are those of `holdfast call`, and may have generators in them:
  {i}              the number of the call, never the same twice      sku=A-{i}  qty:={i}
  {uuid}           a random UUID
  {rand:64}        64 random characters out of 0123456789abcdef
  {file:PATH}      the next line of a file; of a .csv or .jsonl file with
                   columns, {file:orders.csv:sku}
  {{ and }}        a brace (in name:=json only inside strings)

\b
Expectations: p50 p90 p95 p99 p99_9 max mean (20ms), rate (4900/s), errors and
not_sent (a number or 0.1%), with < <= > >= =, separated by commas.

\b
Examples:
  holdfast bench tcp://127.0.0.1:7000 shop.price sku=A-{i} --rate 2000/s
  holdfast bench tcp://127.0.0.1:7000 shop.price sku=A --concurrency 64 --processes 2
  holdfast bench tcp://127.0.0.1:7000 shop.price sku=A --expect 'p99<20ms,errors=0'
  holdfast bench tcp://127.0.0.1:7000 shop.price sku=A --find-max 'p99<20ms'
  holdfast bench tcp://127.0.0.1:7000 --scenario mix.py --rate 500/s --html report.html"""


class Asked(NamedTuple):
    """What was asked for, before anything is known about the server."""

    address: str
    method: str | None
    words: tuple[str, ...]
    scenario: str | None
    plan: Plan
    metadata: dict[str, str]
    insecure: bool
    tls: TlsConfig | None
    expectations: list[Expectation]
    find_max: list[Expectation]
    old: Document | None
    html: str | None
    style: Style


def _load_options(verb: Any) -> Any:
    """The options that say what to send and when."""
    options = [
        env_option("--rate", env="RATE", type=RATE, help="Calls per second, whatever the server does (open loop).  [default: 1000/s]"),
        env_option(
            "--concurrency",
            env="CONCURRENCY",
            type=click.IntRange(min=1),
            metavar="N",
            help="Calls kept open, each followed by the next (closed loop).",
        ),
        env_option(
            "--arrivals",
            env="ARRIVALS",
            type=click.Choice(["constant", "poisson"]),
            default="constant",
            show_default=True,
            help="Open loop: even gaps, or as independent callers come.",
        ),
        env_option("--duration", env="DURATION", type=DURATION, help="How long to measure.  [default: 10s; 5s a step with --find-max]"),
        env_option("--warmup", env="WARMUP", type=DURATION, default="1s", show_default=True, help="Load before it, not measured."),
        env_option("--connections", env="CONNECTIONS", type=click.IntRange(min=1), metavar="N", help="In all.  [default: one a process]"),
        env_option(
            "--processes", env="PROCESSES", type=click.IntRange(1, 256), metavar="N", default=1, show_default=True, help="Client processes."
        ),
        env_option(
            "--max-open",
            env="MAX_OPEN",
            type=click.IntRange(min=1),
            metavar="N",
            default=OUTSTANDING_MAX,
            show_default=True,
            help="Open loop: calls open at once; what is due beyond is not sent, and counted.",
        ),
        env_option("--deadline", env="DEADLINE", type=DURATION, default="10s", show_default=True, help="Of each call; of a whole stream."),
        env_option(
            "--attempts",
            env="ATTEMPTS",
            type=click.IntRange(min=1),
            metavar="N",
            default=1,
            show_default=True,
            help="Tries of one call in all. More than one hides failures.",
        ),
        env_option("--scenario", env="SCENARIO", metavar="FILE", help="A Python file with a mix of calls, instead of METHOD."),
        env_option("--seed", env="SEED", type=int, metavar="N", help="Random arguments and arrivals that repeat."),
    ]
    return functools.reduce(lambda wrapped, option: option(wrapped), reversed(options), verb)


@click.command("bench", epilog=EPILOG)
@click.argument("address", metavar="ADDRESS")
@click.argument("method", metavar="[METHOD]", required=False)
@click.argument("words", metavar="[ARGS]...", nargs=-1)
@_load_options
@env_option("--expect", env="EXPECT", metavar="LIST", help="What must hold, or exit 1: p99<20ms,errors=0.")
@env_option("--find-max", env="FIND_MAX", metavar="LIST", help="Search the highest rate that holds this: p99<20ms.")
@env_option("--compare", env="COMPARE", metavar="FILE", help="Show an older result, of --json, beside this one.")
@env_option("--html", env="HTML", metavar="FILE", help="Write a report with plots to FILE.")
@env_option("-H", "--metadata", env="METADATA", multiple=True, metavar="K=V", help="Metadata to send along; may be repeated.")
@env_option("--insecure", env="INSECURE", is_flag=True, help="Allow plain text to an address on another host.")
@call_tls_options
@common_options
def command(
    address: str,
    method: str | None,
    words: tuple[str, ...],
    scenario: str | None,
    expect: str | None,
    find_max: str | None,
    compare: str | None,
    html: str | None,
    metadata: tuple[str, ...],
    insecure: bool,
    tls: TlsConfig | None,
    style: Style,
    **load: Any,
) -> int:
    """Put load on METHOD at ADDRESS, and print how long calls took and how they ended.

    By default calls leave at a fixed rate, and the latency of each counts from the moment it was due: so what callers suffer from a server
    that stands still is in the percentiles.
    """
    if (method is None) == (scenario is None):
        raise click.UsageError("give a METHOD, or --scenario FILE" + (", not both" if scenario else ""))
    if find_max and (expect or load["concurrency"] or compare or html):
        raise click.UsageError("--find-max goes without --expect, --concurrency, --compare and --html; it takes what must hold itself")
    if html:
        _write(html, "")  # whoever has measured for an hour must not hear then that the folder does not exist
    asked = Asked(
        address,
        method,
        words,
        scenario,
        _plan(searching=bool(find_max), **load),
        parse_metadata(metadata),
        insecure,
        tls,
        parse_expectations(expect, parse_duration, parse_rate) if expect is not None else [],
        parse_expectations(find_max, parse_duration, parse_rate) if find_max is not None else [],
        _older(compare) if compare else None,
        html,
        style,
    )
    try:
        return run_until_signal(lambda signals: (_find_max if asked.find_max else _bench)(asked, signals))
    except HoldfastError as error:
        if style.json:
            sys.stdout.buffer.write(error_bytes(error))
        raise


def _older(file: str) -> Document:
    """The result to compare with. Raises: ConfigError for a file that cannot be read, or is none."""
    try:
        content = read_whole(file, WHOLE_MAX_BYTES)
    except InvalidArgument as error:  # of the file, and not of an argument of the method
        raise ConfigError(f"--compare: {error}") from error
    return read_document(content, file)


def _plan(
    *,
    searching: bool,
    rate: float | None,
    concurrency: int | None,
    duration: float | None,
    warmup: float,
    deadline: float,
    max_open: int,
    connections: int | None,
    processes: int,
    **rest: Any,
) -> Plan:
    if rate is not None and concurrency is not None:
        raise click.UsageError("--rate is open loop and --concurrency closed loop; give one")
    return Plan(
        rate=RATE_DEFAULT_PER_S if rate is None and concurrency is None else rate,
        concurrency=concurrency,
        duration_s=duration if duration is not None else SEARCH_DURATION_S if searching else DURATION_S,
        warmup_s=warmup,
        deadline_s=deadline,
        outstanding_max=max(max_open, processes),
        connections=connections if connections is not None else processes,
        processes=processes,
        **rest,
    )


def _write(path: str, text: str) -> None:
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


async def _job(asked: Asked) -> Job:
    """Reach the server, and read the words by the method's schema. Raises: Unavailable, MethodNotFound, InvalidArgument, ConfigError."""
    async with connect(asked.address, insecure=asked.insecure, tls=asked.tls, attempts=1) as client:
        catalogue = await reach(client.catalogue(), asked.address, asked.plan.deadline_s)
    target = None
    if asked.method is not None:
        entry = catalogue.find(asked.method)
        if entry is None:
            raise unknown_method(catalogue, asked.address, asked.method)
        check_shape(entry.name, entry.shape)

        def read_file(path: str) -> bytes:
            return read_whole(path, WHOLE_MAX_BYTES)

        arguments = parse_arguments(sample_words(asked.words, read_file), signature_of(entry, catalogue), read_file)
        target = Target(method=entry.name, shape=entry.shape, words=asked.words, sample=arguments.values, metadata=asked.metadata)
    elif asked.scenario is not None:
        load_scenario(asked.scenario)
    tls = None if asked.tls is None else Tls.of(asked.tls)
    return Job(address=asked.address, plan=asked.plan, target=target, scenario=asked.scenario, tls=tls, insecure=asked.insecure)


async def _prepared(asked: Asked, signals: Signals) -> Job:
    """As `_job`; the first signal ends it. Raises: Abort."""
    scope = Scope(_told_by_result)
    job, stop = scope.spawn(_job(asked)), scope.spawn(signals.stop())
    try:
        await asyncio.wait([job, stop], return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise click.Abort
        result: Job = job.result()
        return result
    finally:
        await scope.close(grace_s=1.0)


def _told_by_result(error: BaseException) -> None:
    """Whoever waits for the task hears of it."""


async def _measure(job: Job, signals: Signals, screen: Screen) -> Measured:
    """Run it; the first signal ends it early, with what was counted."""
    fleet = Fleet(job, lambda progress: screen.progress(progress, job.plan))

    async def stop_at_signal() -> None:
        await signals.stop()
        fleet.stop()

    scope = Scope(_unheard)
    scope.spawn(stop_at_signal())
    try:
        return await fleet.run()
    finally:
        screen.clear()
        await scope.close(grace_s=1.0)


def _unheard(error: BaseException) -> None:
    raise error


async def _bench(asked: Asked, signals: Signals) -> int:
    screen = Screen(asked.style)
    job = await _prepared(asked, signals)
    screen.say(_headline(asked))
    measured = await _measure(job, signals, screen)
    verdicts = judge_all(asked.expectations, measured)
    document = make_document(_subject(asked), asked.plan, measured, verdicts)
    if asked.html is not None:
        _write(asked.html, result_page(document, _typed(asked)))
    if asked.style.json:
        screen.out(encode_document(document).decode().rstrip("\n"))
        if asked.old is not None:
            screen.say("\n".join(comparison_lines(asked.old, document)))
    elif asked.style.quiet:
        screen.lines(warnings(document) + [f"{each.text} FAIL ({each.value})" for each in verdicts if not each.held])
    else:
        screen.lines(result_lines(document) + (comparison_lines(asked.old, document) if asked.old is not None else []))
    return _code(document, signals)


def _code(document: Document, signals: Signals) -> int:
    if signals.stopping:
        return 130
    if not document.ok and set(document.errors) == {"unavailable"}:
        return 3
    failed = document.processes_lost or not all(each.held for each in document.expectations)
    return 1 if failed else 0


async def _find_max(asked: Asked, signals: Signals) -> int:
    assert asked.plan.rate is not None
    screen = Screen(asked.style)
    job = await _prepared(asked, signals)
    search = MaxSearch(asked.plan.rate)
    steps: list[SearchStep] = []
    best: Document | None = None
    screen.say(f"searching the highest rate that holds {', '.join(each.text for each in asked.find_max)}; {_headline(asked)} a step")
    while not search.over and not signals.stopping:
        plan = _at_rate(asked.plan, search.rate)
        measured = await _measure(_with_plan(job, plan), signals, screen)
        if measured.interrupted:
            break
        verdicts = judge_all(asked.find_max, measured)
        besides = judge_all(also_expected(asked.find_max, plan), measured)
        held = all(each.held for each in [*verdicts, *besides])
        document = make_document(_subject(asked), plan, measured, verdicts + [each for each in besides if not each.held])
        steps.append(search_step(document, held))
        best = document if held else best
        search.tell(held, document.generator.why)
        if not asked.style.json:
            screen.lines([search_line(steps[-1])])
    found = SearchDocument(search.best, search.over or "interrupted", tuple(steps), best, interrupted=signals.stopping)
    if asked.style.json:
        screen.out(encode_document(found).decode().rstrip("\n"))
    else:
        screen.lines(search_lines(found) + (result_lines(best) if best is not None and not asked.style.quiet else []))
    return 130 if signals.stopping else 0 if found.max_rate_per_s is not None else 1


def _at_rate(plan: Plan, rate: float) -> Plan:
    return msgspec.structs.replace(plan, rate=rate)


def _with_plan(job: Job, plan: Plan) -> Job:
    return msgspec.structs.replace(job, plan=plan)


def _subject(asked: Asked) -> Subject:
    return Subject(asked.address, asked.method or asked.scenario or "", asked.words)


def _headline(asked: Asked) -> str:
    plan = asked.plan
    how = f"{plan.rate:,.6g}/s, open loop" if plan.rate is not None else f"{plan.concurrency} at once, closed loop"
    return f"{asked.method or asked.scenario} at {how}: {format_duration(plan.warmup_s)} warm-up, then {format_duration(plan.duration_s)}"


def _typed(asked: Asked) -> str:
    plan = asked.plan
    what = [asked.method, *asked.words] if asked.method is not None else ["--scenario", asked.scenario or ""]
    load = ["--rate", f"{plan.rate:g}/s"] if plan.rate is not None else ["--concurrency", f"{plan.concurrency}"]
    more = ["--duration", format_duration(plan.duration_s), "--connections", f"{plan.connections}", "--processes", f"{plan.processes}"]
    return shlex.join(["holdfast", "bench", asked.address, *what, *load, *more])


class Screen:
    """Results on stdout, everything about them on stderr; progress in place on a terminal, and as lines only when asked for."""

    def __init__(self, style: Style) -> None:
        self._style = style
        self._terminal = is_terminal(sys.stderr) and not style.json and not style.quiet
        self._lines = style.verbose and not style.json and not self._terminal
        self._shown = False

    def say(self, text: str) -> None:
        """Say something about the run: to a person who looks, or who asked."""
        if self._terminal or self._style.verbose:
            click.echo(text, err=True)

    def progress(self, progress: Progress, plan: Plan) -> None:
        """Show the last second."""
        line = progress_line(progress, plan.warmup_s, plan.duration_s)
        if self._terminal:
            click.echo(f"\r{line}\x1b[K", err=True, nl=False)
            self._shown = True
        elif self._lines:
            click.echo(line, err=True)

    def clear(self) -> None:
        """Take the progress away before results are printed."""
        if self._shown:
            click.echo("\r\x1b[K", err=True, nl=False)
            self._shown = False

    def lines(self, lines: list[str]) -> None:
        """Print lines of a result."""
        colour = self._style.colour(sys.stdout)
        for line in lines:
            safe = printable(line)
            self.out(_coloured(safe) if colour else safe)

    def out(self, text: str) -> None:
        """Print on stdout."""
        click.echo(text, color=True)


def _coloured(line: str) -> str:
    if line.startswith(("warning", "interrupted")):
        return click.style(line, fg="yellow")
    return line.replace(" PASS ", f" {click.style('PASS', fg='green')} ").replace(" FAIL ", f" {click.style('FAIL', fg='red')} ")
