"""`holdfast call ADDRESS [METHOD] [ARGS…]`: one call, with types from the server's own catalogue; without a method, the list of them.

Owned here: the order of things: reach the server, learn the method's schema, read the words by it, call, print as it comes. What may never
happen: a call that leaves with arguments we guessed, or output that waits for a slow reader on the loop's thread.

stdout is the result's alone. How the call went (the trace, the closing line) goes to stderr, after the result and before the error.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncGenerator, Awaitable
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar

import click
import msgspec

from ..client import Client, Trailers, connect
from ..clock import SystemClock
from ..errors import ConfigError, DeadlineExceeded, HoldfastError, MethodNotFound, Unavailable
from ..handler import CallRecord
from ..net.trust import TlsConfig
from ..observe.explain import timeline
from ..rpc.catalogue import Catalogue, Entry
from ..runtime.lifecycle import loop_factory
from .arguments import Parameter, Signature, from_json, is_bytes, parse_arguments
from .options import Style, common_options, env_option, is_terminal
from .pipes import Sink, chunks, lines, open_source, read_whole
from .results import Form, error_bytes, result_bytes, table
from .text import printable
from .tls import call_tls_options
from .values import DURATION, format_duration

T = TypeVar("T")

REACH_S = 10.0
WHOLE_MAX_BYTES = 64 * 1024 * 1024
LINE_MAX_BYTES = 16 * 1024 * 1024

EPILOG = """\b
Arguments:
  name=value     text where the method takes text, otherwise JSON:  qty=2
  name:=json     JSON:                                              tags:='["a","b"]'
  a.b=value      a field of an argument:                            order.id=o-1
  name=@file     the contents of a file:                            data=@photo.jpg
  @file  or  -   all arguments as one JSON object; for a method that takes a
                 stream, its items: JSON lines, or raw bytes

\b
Examples:
  holdfast call tcp://127.0.0.1:7000
  holdfast call tcp://127.0.0.1:7000 shop.place order.id=o-1 order.qty=2 --trace
  holdfast call tcp://127.0.0.1:7000 shop.watch since=0 --json
  holdfast call tcp://127.0.0.1:7000 shop.upload name=a.bin - < a.bin
  holdfast call tls://shop.example.com:7000 shop.report day=2026-01-31 -o report.pdf"""


class Plan(NamedTuple):
    """What was asked for, before anything is known about the server."""

    address: str
    method: str | None
    words: tuple[str, ...]
    deadline_s: float | None
    attempts: int
    metadata: dict[str, str]
    insecure: bool
    tls: TlsConfig | None
    trace: bool
    form: Form
    style: Style


@click.command("call", epilog=EPILOG)
@click.argument("address", metavar="ADDRESS")
@click.argument("method", metavar="[METHOD]", required=False)
@click.argument("words", metavar="[ARGS]...", nargs=-1)
@env_option("--deadline", env="DEADLINE", type=DURATION, help="How long to wait for the answer, or for the first item.  [default: 10s]")
@env_option(
    "--attempts",
    env="ATTEMPTS",
    type=click.IntRange(min=1),
    metavar="N",
    default=3,
    show_default=True,
    help="Tries in all, where a retry is safe.",
)
@env_option("-H", "--metadata", env="METADATA", multiple=True, metavar="K=V", help="Metadata to send along; may be repeated.")
@env_option("--insecure", env="INSECURE", is_flag=True, help="Allow plain text to an address on another host.")
@call_tls_options
@env_option("--raw", env="RAW", is_flag=True, help="Write bytes and text as they are, to a terminal too.")
@env_option("--trace", env="TRACE", is_flag=True, help="Then show on stderr how the call went: nodes, attempts, pauses, what was left.")
@env_option("-o", "--output", env="OUTPUT", metavar="FILE", help="Write results to FILE, bytes as they are; - is standard output.")
@common_options
def command(
    address: str,
    method: str | None,
    words: tuple[str, ...],
    deadline: float | None,
    attempts: int,
    metadata: tuple[str, ...],
    insecure: bool,
    tls: TlsConfig | None,
    raw: bool,
    trace: bool,
    output: str | None,
    style: Style,
) -> int:
    """Call METHOD at ADDRESS and print what it returns; a stream prints one line per item.

    Without METHOD: list what the server offers.
    """
    to_file = output not in (None, "-")
    form = Form(json=style.json, raw=raw or output == "-", terminal=is_terminal(sys.stdout) and not to_file)
    plan = Plan(address, method, words, deadline, attempts, parse_metadata(metadata), insecure, tls, trace, form, style)
    try:
        descriptor = _open_output(output) if output is not None and to_file else 1
        with asyncio.Runner(loop_factory=loop_factory()[1]) as runner:
            runner.run(_run(plan, Sink(descriptor)))
    except HoldfastError as error:
        if style.json:
            sys.stdout.buffer.write(error_bytes(error))
        raise
    return 0


def parse_metadata(words: tuple[str, ...]) -> dict[str, str]:
    """The values of `-H`, by name. Raises: UsageError."""
    pairs = [word.partition("=") for word in words]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise click.UsageError(f"-H {name!r}: expected K=V")
    return {name: value for name, _, value in pairs}


def _open_output(path: str) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error.strerror}") from error


async def _run(plan: Plan, sink: Sink) -> None:
    async with connect(plan.address, insecure=plan.insecure, tls=plan.tls, attempts=plan.attempts) as client:
        try:
            catalogue = await reach(client.catalogue(), plan.address, plan.deadline_s)
        except HoldfastError:
            if plan.trace:
                _tell_trace(
                    None, f"no call was made; `holdfast check --stack {plan.address} --connect` shows how the nodes are", plan.style
                )
            raise
        if plan.method is None:
            await sink.write(_listing(catalogue, plan.form))
            return
        entry = catalogue.find(plan.method)
        if entry is None:
            raise unknown_method(catalogue, plan.address, plan.method)
        told: list[Trailers] = []
        records: list[CallRecord] = []
        asking = client.using(trailers=lambda _, trailers: told.append(trailers), explain=records.append if plan.trace else None)
        started_at = SystemClock.now()
        try:
            await _call(asking, entry, signature_of(entry, catalogue), plan, sink)
        finally:
            if plan.trace:
                streams = entry.shape not in ("unary", "client_stream")
                why = f"{entry.name} answers with a stream, of which no record is kept" if streams else "no call was made"
                _tell_trace(records[0] if records else None, why, plan.style)
        _closing_line(SystemClock.now() - started_at, told, plan.style)


def _tell_trace(record: CallRecord | None, why_not: str, style: Style) -> None:
    """Write the record of the call to stderr, for people or as one JSON object; or why there is none."""
    if style.json:
        found: dict[str, object] = {"trace": record} if record is not None else {"trace": None, "why": why_not}
        click.echo(msgspec.json.encode(found).decode(), err=True)
    else:
        click.echo("\n".join(timeline(record)) if record is not None else f"no trace: {printable(why_not)}", err=True)


async def reach(catalogue: Awaitable[T], address: str, deadline_s: float | None) -> T:
    """The first answer from the server; without one in time it counts as unreachable.

    Raises: Unavailable. Cancel: as what is awaited.
    """
    within_s = deadline_s if deadline_s is not None else REACH_S
    try:
        async with asyncio.timeout(within_s):
            return await catalogue
    except DeadlineExceeded as error:
        raise Unavailable(f"{address} cannot be reached: {error}") from error
    except TimeoutError as error:
        raise Unavailable(f"{address} did not answer within {format_duration(within_s)}") from error


def signature_of(entry: Entry, catalogue: Catalogue) -> Signature:
    """The catalogue's row as the argument reader wants it."""
    return Signature(
        text=_full_signature(entry),
        parameters=tuple(Parameter(p.name, p.schema, p.required) for p in entry.params),
        stream=entry.stream_param,
        items=entry.stream_in or {},
        components=catalogue.components,
    )


def _full_signature(entry: Entry) -> str:
    service = entry.name.rpartition(".")[0]
    return f"{service}.{entry.signature}"


def _listing(catalogue: Catalogue, form: Form) -> bytes:
    if form.json:
        return msgspec.json.encode(catalogue.entries) + b"\n"
    rows = [(_full_signature(e), "idempotent" if e.idempotent else "", e.doc) for e in catalogue.entries]
    return (table(rows) + "\n").encode() if rows else b""


def unknown_method(catalogue: Catalogue, address: str, method: str) -> MethodNotFound:
    """The error for a method that the server does not have."""
    near = catalogue.suggest(method)
    hint = f"did you mean {' or '.join(near)}?" if near else f"holdfast call {address} lists what it has"
    return MethodNotFound(f"{address} has no method {method!r}; {hint}")


async def _call(client: Client, entry: Entry, signature: Signature, plan: Plan, sink: Sink) -> None:
    """Make the call in its shape; print what comes as it comes."""
    arguments = parse_arguments(plan.words, signature, lambda path: read_whole(path, WHOLE_MAX_BYTES))
    values: dict[str, Any] = dict(arguments.values)
    if plan.metadata:
        values["metadata"] = plan.metadata
    if plan.deadline_s is not None:
        values["deadline"] = plan.deadline_s
    if arguments.source is None or signature.stream is None:
        await _answer(client, entry, values, plan.form, sink)
        return
    descriptor = open_source(arguments.source)
    try:
        values[signature.stream] = _items(descriptor, signature)  # the call closes it; a cancelled call may still be reading
        await _answer(client, entry, values, plan.form, sink)
    finally:
        if descriptor:
            os.close(descriptor)


async def _answer(client: Client, entry: Entry, values: dict[str, Any], form: Form, sink: Sink) -> None:
    if entry.shape in ("unary", "client_stream"):
        await sink.write(result_bytes(await client.call(entry.name, **values), form))
        return
    async with client.stream(entry.name, **values) as stream:
        async for item in stream:
            await sink.write(result_bytes(item, form, item=True))


async def _items(descriptor: int, signature: Signature) -> AsyncGenerator[object, None]:
    """The stream we send: raw chunks when its items are bytes, else one JSON value per line."""
    if is_bytes(signature.items, signature.components):
        async with aclosing(chunks(descriptor)) as parts:
            async for part in parts:
                yield part
        return
    number = 0
    async with aclosing(lines(descriptor, LINE_MAX_BYTES)) as texts:
        async for text in texts:
            number += 1
            yield from_json(text, signature.items, signature.components, f"item {number} of {signature.stream}")


def _closing_line(took_s: float, told: list[Trailers], style: Style) -> None:
    if style.verbose or (is_terminal(sys.stderr) and not style.quiet and not style.json):
        text = f"ok in {format_duration(took_s)}"
        for trailers in told[-1:]:  # of the attempt that was answered
            waited, ran = format_duration(trailers.queue_us / 1e6), format_duration(trailers.run_us / 1e6)
            text += f" (at the server: waited {waited}, ran {ran}; its load is {trailers.load:.0%})"
        click.echo(click.style(text, fg="green") if style.colour(sys.stderr) else text, err=True)
