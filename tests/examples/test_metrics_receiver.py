"""The metrics receiver comes to the right totals over a path that loses, doubles and reorders, and knows how much was lost."""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import holdfast
from tests.examples.conductor import ENVIRONMENT, EXAMPLES, PATIENCE_S

NAMES = ("metrics_wire", "metrics_sender", "metrics_receiver")


@pytest.fixture(scope="module")
def modules() -> Iterator[Any]:
    """The three files of the example, as its programs import one another."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
        wire, sender, receiver = (importlib.import_module(name) for name in NAMES)
        yield SimpleNamespace(wire=wire, sender=sender, receiver=receiver)
        for name in NAMES:
            sys.modules.pop(name)


# --------------------------------------------------------------------------------------------------------- an unruly network


class Unruly:
    """What a bad path does to datagrams: one in twenty is lost, one in twenty comes twice, one in twenty after some of the next."""

    def __init__(self, seed: int, rate: float = 0.05) -> None:
        self._rng = random.Random(seed)
        self._rate = rate
        self._held: list[tuple[int, bytes]] = []
        self.seen = self.dropped = self.doubled = self.delayed = 0

    def take(self, data: bytes) -> list[bytes]:
        """What comes out when this goes in."""
        self.seen += 1
        out: list[bytes] = []
        fate = self._rng.random()
        if fate < self._rate:
            self.dropped += 1
        elif fate < 2 * self._rate:
            self.doubled += 1
            out += [data, data]
        elif fate < 3 * self._rate:
            self.delayed += 1
            self._held.append((self.seen + self._rng.randint(1, 5), data))
        else:
            out.append(data)
        out += [held for due, held in self._held if due <= self.seen]
        self._held = [(due, held) for due, held in self._held if due > self.seen]
        return out

    def rest(self) -> list[bytes]:
        """What is still held back."""
        held, self._held = self._held, []
        return [data for _, data in held]


class Relay:
    """A bad path between one sender and the receiver, both ways: `front` is where the sender sends to, `back` sends on."""

    def __init__(self, seed: int) -> None:
        self.there, self.here = Unruly(seed), Unruly(seed + 1)
        self.front, self.back = Side(self._go), Side(self._come)
        self._sender: Any = None

    def _go(self, data: bytes, addr: Any) -> None:
        self._sender = addr
        for each in self.there.take(data):
            self.back.transport.sendto(each)

    def _come(self, data: bytes, addr: Any) -> None:
        for each in self.here.take(data):
            self.front.transport.sendto(each, self._sender)

    def settle(self) -> None:
        for each in self.there.rest():
            self.back.transport.sendto(each)


class Side(asyncio.DatagramProtocol):
    transport: Any

    def __init__(self, take: Any) -> None:
        self._take = take

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self._take(data, addr)


async def until(state: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not state():  # noqa: ASYNC110 # the state is in the protocols, which tell nobody
            await asyncio.sleep(0)


class Path:
    """A receiver, and senders that each reach it over a relay of their own."""

    def __init__(self, modules: Any, stack: AsyncExitStack, seed: int) -> None:
        self.modules = modules
        self.relays: list[Relay] = []
        self.receiver = modules.receiver.Receiver(modules.receiver.Ledger())
        self._stack = stack
        self._seed = seed

    async def open(self) -> None:
        server = await self._stack.enter_async_context(holdfast.serve(lambda: self.receiver, bind="udp://127.0.0.1:0"))
        self._address = server.addresses[0]

    async def sender(self, metrics: Any) -> tuple[Any, Relay]:
        relay = Relay(self._seed + 100 * len(self.relays))
        self.relays.append(relay)
        front = await self._stack.enter_async_context(holdfast.serve(lambda: relay.front, bind="udp://127.0.0.1:0"))
        back, _ = await holdfast.dial(lambda: relay.back, str(self._address))
        self._stack.callback(back.close)
        transport, reporter = await holdfast.dial(lambda: self.modules.sender.Reporter(metrics), str(front.addresses[0]))
        self._stack.callback(transport.close)
        return reporter, relay

    async def settled(self) -> Any:
        """The totals, when everything that was let through has come."""
        for relay in self.relays:
            relay.settle()
        through = sum(relay.there.seen - relay.there.dropped + relay.there.doubled for relay in self.relays)
        await until(lambda: sum(row.received + row.duplicates for row in self.receiver.totals().senders) == through)
        return self.receiver.totals()


async def report(metrics: Any, reporter: Any, relay: Relay, rounds: int) -> None:
    for number in range(rounds):
        metrics.count("orders")
        metrics.count(f"bytes of {metrics.sender}", number)
        metrics.gauge("queue", float(number))
        reporter.flush()
        if number % 20 == 19:
            await until(lambda: relay.there.seen == metrics.number)  # so that no kernel buffer decides what is lost
    assert await reporter.finish(PATIENCE_S)


@pytest.mark.both_loops
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_totals_are_right_and_losses_known_over_a_bad_path(modules: Any, seed: int) -> None:
    async with AsyncExitStack() as stack:
        path = Path(modules, stack, seed)
        await path.open()
        everybody = [modules.sender.Metrics(f"web-{n}", instance=n) for n in range(1, 4)]
        opened = [(metrics, *await path.sender(metrics)) for metrics in everybody]
        async with asyncio.TaskGroup() as group:
            for metrics, reporter, relay in opened:
                group.create_task(report(metrics, reporter, relay, rounds=300))
        totals = await path.settled()
    assert totals.counters == {"orders": 900, **{f"bytes of web-{n}": 299 * 300 // 2 for n in range(1, 4)}}
    assert totals.gauges == {f"web-{n}": {"queue": 299.0} for n in range(1, 4)}
    for row, (metrics, _, relay) in zip(totals.senders, opened, strict=True):
        assert (row.lost, row.duplicates, row.restarts) == (relay.there.dropped, relay.there.doubled, 0)
        assert row.received == metrics.number - relay.there.dropped
        assert row.lost > 0
        assert row.duplicates > 0
        assert 0 < row.reordered <= relay.there.delayed
    assert (totals.malformed, totals.no_room, totals.dropped) == (0, 0, {})


async def test_a_sender_that_starts_again_goes_on_where_it_was(modules: Any) -> None:
    async with AsyncExitStack() as stack:
        path = Path(modules, stack, 7)
        await path.open()
        for life in (1, 2):
            metrics = modules.sender.Metrics("web-1", instance=life)
            reporter, relay = await path.sender(metrics)
            await report(metrics, reporter, relay, rounds=100)
        totals = await path.settled()
    assert totals.counters == {"bytes of web-1": 2 * 4950, "orders": 200}
    [row] = totals.senders
    assert (row.restarts, row.lost) == (1, sum(relay.there.dropped for relay in path.relays))


async def test_the_last_words_of_a_sender_nobody_hears_end_in_time(modules: Any) -> None:
    async with holdfast.serve(asyncio.DatagramProtocol, bind="udp://127.0.0.1:0") as silent:
        metrics = modules.sender.Metrics("web-1")
        transport, reporter = await holdfast.dial(lambda: modules.sender.Reporter(metrics), str(silent.addresses[0]))
        assert not await reporter.finish(0.02)
        transport.close()


async def test_an_answer_to_an_earlier_round_does_not_end_the_last_words(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules.sender, "ANSWER_S", 0.02)
    came: list[int] = []
    answers: list[int] = []

    def take(data: bytes, addr: Any) -> None:
        came.append(modules.wire.unpack(data).number)
        if len(came) not in (1, 3):  # the first is answered late, the second and third never, all others at once
            answers.append(1 if len(came) == 2 else came[-1])
            side.transport.sendto(modules.wire.pack(modules.wire.Answer(9, answers[-1])), addr)

    side = Side(take)
    async with holdfast.serve(lambda: side, bind="udp://127.0.0.1:0") as server:
        metrics = modules.sender.Metrics("web-1", instance=9)
        transport, reporter = await holdfast.dial(lambda: modules.sender.Reporter(metrics), str(server.addresses[0]))
        assert await reporter.finish(10.0)
        transport.close()
    assert answers[0] == 1
    assert metrics.number == answers[-1] >= 4


async def test_a_block_reports_while_it_runs_and_when_it_ends(modules: Any) -> None:
    async with AsyncExitStack() as stack:
        path = Path(modules, stack, 1)
        await path.open()
        async with modules.sender.sending(str(path._address), "web-1") as metrics:
            await until(lambda: path.receiver.totals().senders)
            metrics.count("orders", 5)
        assert path.receiver.totals().counters == {"orders": 5}


# -------------------------------------------------------------------------------------------------------------- the ledger


def report_of(modules: Any, number: int, total: int = 1, *, instance: int = 1, sender: str = "s", asks: bool = False) -> bytes:
    packed: bytes = modules.wire.pack(modules.wire.Report(sender, instance, number, asks, {"n": total}, {"g": float(number)}))
    return packed


@given(order=st.permutations(range(1, 30)), twice=st.lists(st.integers(0, 28)), lost=st.sets(st.integers(1, 28)))
def test_order_and_number_of_arrivals_change_nothing(modules: Any, order: list[int], twice: list[int], lost: set[int]) -> None:
    ledger = modules.receiver.Ledger()
    arrivals = [number for number in [*order, *(order[index] for index in twice)] if number not in lost]
    for number in arrivals:
        ledger.enter(report_of(modules, number, total=number * 10))
    totals = ledger.totals({})
    assert (totals.counters, totals.gauges) == ({"n": 290}, {"s": {"g": 29.0}})
    [row] = totals.senders
    assert (row.received, row.lost, row.duplicates) == (29 - len(lost), len(lost), len(arrivals) - 29 + len(lost))


def test_what_is_too_old_to_be_recognised_stays_lost(modules: Any) -> None:
    ledger, window = modules.receiver.Ledger(), modules.receiver.WINDOW
    for number in (1, window + 1, 2, 1, window + 1):
        ledger.enter(report_of(modules, number))
    [row] = ledger.totals({}).senders
    assert (row.received, row.lost, row.reordered, row.duplicates, row.too_old) == (3, window - 2, 1, 1, 1)
    ledger.enter(report_of(modules, 10**9))
    assert ledger.totals({}).senders[0].lost == 10**9 - 4


def test_lives_beyond_the_last_few_are_summed_up(modules: Any) -> None:
    ledger, kept = modules.receiver.Ledger(), modules.receiver.LIVES_MAX
    for life in range(1, kept + 4):
        ledger.enter(report_of(modules, 2, total=10, instance=life))
    assert ledger.enter(report_of(modules, 3, total=500, instance=1, asks=True)) is None
    totals = ledger.totals({})
    assert totals.counters == {"n": 10 * (kept + 3)}
    [row] = totals.senders
    assert (row.restarts, row.received, row.lost, row.too_old) == (kept + 2, kept + 3, kept + 3, 1)


def test_strangers_cannot_make_it_grow(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules.receiver, "SENDERS_MAX", 5)
    monkeypatch.setattr(modules.receiver, "NAMES_MAX", 5)
    ledger = modules.receiver.Ledger()
    for n in range(50):
        ledger.enter(report_of(modules, 1, sender=f"s{n}"))
        ledger.enter(modules.wire.pack(modules.wire.Report("s0", 1, n + 2, False, {f"c{n}": 1}, {f"g{n}": 1.0})))
    assert (len(ledger.senders), ledger.no_room) == (5, 45)
    life = ledger.senders["s0"].lives[1]
    assert (len(life.counters), len(life.gauges)) == (5, 5)


def test_only_who_asks_is_answered(modules: Any) -> None:
    ledger, wire = modules.receiver.Ledger(), modules.wire
    assert ledger.enter(report_of(modules, 1)) is None
    answer = ledger.enter(report_of(modules, 2, asks=True))
    assert wire.unpack(answer) == wire.Answer(1, 2)
    assert len(answer) < len(report_of(modules, 2, asks=True)), "a forged sender is not sent more than was sent in its name"
    assert ledger.enter(answer) is None
    assert ledger.malformed == 1


# -------------------------------------------------------------------------------------------------------------- the format


utf8 = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(
    sender=utf8,
    instance=st.integers(0, 2**64 - 1),
    number=st.integers(0, 2**64 - 1),
    asks=st.booleans(),
    counters=st.dictionaries(utf8, st.integers(0, 2**64 - 1), max_size=5),
    gauges=st.dictionaries(utf8, st.floats(allow_nan=False), max_size=5),
)
def test_what_is_packed_is_unpacked(modules: Any, **fields: Any) -> None:
    report = modules.wire.Report(**fields)
    assert modules.wire.unpack(modules.wire.pack(report)) == report


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_in_one_way(modules: Any, data: bytes) -> None:
    with pytest.raises(modules.wire.Malformed):
        modules.wire.unpack(data)


@given(st.binary(max_size=60), st.integers(0, 2**64 - 1))
def test_any_body_with_a_right_checksum_is_read_or_refused(modules: Any, body: bytes, number: int) -> None:
    try:
        modules.wire.unpack(modules.wire._with_crc(0, 1, number, body))
    except modules.wire.Malformed:
        pass


def test_one_wrong_bit_anywhere_is_found(modules: Any) -> None:
    packed = report_of(modules, 1, asks=True)
    for at in range(len(packed) * 8):
        damaged = bytearray(packed)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(modules.wire.Malformed):
            modules.wire.unpack(bytes(damaged))


def test_many_names_take_several_datagrams_of_the_size_every_path_carries(modules: Any) -> None:
    metrics = modules.sender.Metrics("web-1", instance=1)
    for n in range(1200):
        metrics.count(f"a counter with a longer name {n}", n)
    metrics.gauge("late", 1.0)
    assert (len(metrics.counters), metrics.refused) == (1000, 201)
    parts = metrics.parts()
    datagrams = [metrics.datagram(part) for part in parts]
    assert max(map(len, datagrams)) <= modules.wire.DATAGRAM_MAX_BYTES
    assert min(map(len, datagrams[:-1])) > modules.wire.DATAGRAM_MAX_BYTES - 50
    assert sum(len(part.counters) for part in parts) == 1000
    assert metrics.number == len(parts)


def test_what_cannot_be_sent_is_refused_when_it_is_said(modules: Any) -> None:
    metrics = modules.sender.Metrics("web-1")
    for wrong in (lambda: metrics.count("n", -1), lambda: metrics.count("x" * 101), lambda: metrics.gauge("", 1.0)):
        with pytest.raises(ValueError, match="a counter only goes up|a name has 1 to 100"):
            wrong()
    with pytest.raises(ValueError, match="a name has 1 to 100"):
        modules.sender.Metrics("x" * 101)


# ------------------------------------------------------------------------------------------------------------- as programs


@pytest.mark.slow
def test_the_programs_do_what_their_docstrings_say() -> None:
    command = [sys.executable, "metrics_receiver.py", "udp://127.0.0.1:0", "--json", "--every", "60"]
    with subprocess.Popen(command, cwd=EXAMPLES, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as receiver:
        watchdog = threading.Timer(PATIENCE_S, receiver.kill)
        watchdog.start()
        try:
            assert receiver.stdout is not None
            address = json.loads(receiver.stdout.readline())["listening"]
            load = [sys.executable, "metrics_sender.py", address, "--steps", "200", "--pause", "0.0005"]
            senders = [
                subprocess.Popen([*load, "--name", name], cwd=EXAMPLES, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
                for name in ("web-1", "web-1", "web-2")
            ]
            said = [json.loads(sender.communicate(timeout=PATIENCE_S)[0]) for sender in senders]
            receiver.send_signal(signal.SIGTERM)
            out, err = receiver.communicate(timeout=PATIENCE_S)
        finally:
            watchdog.cancel()
            receiver.kill()
    assert (err, receiver.returncode) == ("", 0)
    totals = json.loads(out.splitlines()[-1])
    assert all(each["finished"] for each in said)
    assert totals["counters"] == {"bytes": 3 * sum(range(100, 300)), "orders": 600}
    assert [(row["sender"], row["restarts"], row["lost"]) for row in totals["senders"]] == [("web-1", 1, 0), ("web-2", 0, 0)]
    assert sum(row["received"] for row in totals["senders"]) == sum(each["sent"] for each in said)


def test_the_table_names_senders_losses_and_totals(modules: Any) -> None:
    ledger = modules.receiver.Ledger()
    for number in (1, 4, 3, 3):
        ledger.enter(report_of(modules, number, total=12_345))
    ledger.enter(b"?")
    assert modules.receiver.table(ledger.totals({"kernel": 3, "closed": 0})).splitlines() == [
        "sender  received  lost  reordered  duplicates  restarts",
        "s              3     1          1           1         0",
        "",
        "n                                  12,345",
        "g of s                                  4",
        "dropped here, kernel: 3",
        "not taken: 1 malformed, 0 of too many senders",
    ]
