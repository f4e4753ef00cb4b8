"""A metrics receiver: counters that stay right however many datagrams are lost, doubled or late, and who lost how many.

    cd examples
    python metrics_receiver.py udp://127.0.0.1:8125                a table every five seconds, and at the end
    python metrics_sender.py udp://127.0.0.1:8125 --name web-1     in another terminal: a load
    python metrics_receiver.py udp://127.0.0.1:8125 --json         one JSON object a line; the first says where it listens

The format and the reasoning stand in metrics_wire.py.
"""

import argparse
import asyncio
import signal
import sys
from typing import cast

import msgspec
from metrics_wire import Answer, Malformed, Report, pack, unpack

import holdfast
from holdfast import facts

SENDERS_MAX = 1_000
NAMES_MAX = 1_000
LIVES_MAX = 4
"""Lives of one sender that are told apart. Of older ones only the totals stay, and what still comes of them is too late."""
WINDOW = 1_024
"""How far back a datagram is recognised as one that came before."""


class Life:
    """One process of a sender, from its start to its end: what it counted, and what came of its datagrams."""

    def __init__(self) -> None:
        self.highest = 0
        self.received = 0
        self.duplicates = 0
        self.reordered = 0
        self.too_old = 0
        self.counters: dict[str, int] = {}
        self.gauges: dict[str, tuple[int, float]] = {}
        self._window = 0  # bit n: number `highest - n` came

    @property
    def lost(self) -> int:
        """How many numbers up to the highest did not come; a late one may still. Numbers begin at 1, so a lost beginning counts."""
        return self.highest - self.received

    def enter(self, report: Report) -> None:
        """Take a report. Totals are taken by size and gauges by number, so this is right in any order and any number of times."""
        self._note(report.number)
        for name, total in report.counters.items():
            if total >= self.counters.get(name, 0) and (name in self.counters or len(self.counters) < NAMES_MAX):
                self.counters[name] = total
        for name, value in report.gauges.items():
            number, _ = self.gauges.get(name, (-1, 0.0))
            if report.number > number and (name in self.gauges or len(self.gauges) < NAMES_MAX):
                self.gauges[name] = (report.number, value)

    def _note(self, number: int) -> None:
        ahead = number - self.highest
        if ahead > 0:
            self._window = (self._window << min(ahead, WINDOW) | 1) & ((1 << WINDOW) - 1)
            self.highest = number
            self.received += 1
        elif ahead <= -WINDOW:
            self.too_old += 1  # it may be a second one: it stays lost
        elif self._window >> -ahead & 1:
            self.duplicates += 1
        else:
            self._window |= 1 << -ahead
            self.received += 1
            self.reordered += 1


class SenderRow(msgspec.Struct):
    """What came of one sender's datagrams, over all its lives."""

    sender: str
    restarts: int = 0
    received: int = 0
    lost: int = 0
    reordered: int = 0
    duplicates: int = 0
    too_old: int = 0

    def add(self, life: Life) -> None:
        self.received += life.received
        self.lost += life.lost
        self.reordered += life.reordered
        self.duplicates += life.duplicates
        self.too_old += life.too_old


class Sender:
    """One sender by name. `lives` by instance, the youngest last; `past` and `past_row` are what older ones came to."""

    def __init__(self, name: str) -> None:
        self.lives: dict[int, Life] = {}
        self.past: dict[str, int] = {}
        self.past_row = SenderRow(name)
        self.past_until = -1

    def enter(self, report: Report) -> bool:
        """Take a report; False when it is of a life that is past."""
        life = self.lives.get(report.instance)
        if life is None:
            if report.instance <= self.past_until:
                self.past_row.too_old += 1
                return False
            self.past_row.restarts += bool(self.lives)
            life = self.lives[report.instance] = Life()
            self.lives = dict(sorted(self.lives.items()))
            if len(self.lives) > LIVES_MAX:
                self._retire(next(iter(self.lives)))
        life.enter(report)
        return True

    def _retire(self, instance: int) -> None:
        life = self.lives.pop(instance)
        self.past_until = instance
        self.past_row.add(life)
        for name, total in life.counters.items():
            if name in self.past or len(self.past) < NAMES_MAX:
                self.past[name] = self.past.get(name, 0) + total

    def counters(self) -> dict[str, int]:
        totals = dict(self.past)
        for life in self.lives.values():
            for name, total in life.counters.items():
                totals[name] = totals.get(name, 0) + total
        return totals

    def gauges(self) -> dict[str, float]:
        """Those of the youngest life: an older one measures no more."""
        youngest = next(reversed(self.lives.values()), None)
        return {} if youngest is None else {name: value for name, (_, value) in youngest.gauges.items()}

    def row(self) -> SenderRow:
        row = msgspec.structs.replace(self.past_row)
        for life in self.lives.values():
            row.add(life)
        return row


class Totals(msgspec.Struct):
    """What a receiver has to tell. Counters are summed over senders; gauges stand for themselves.

    Attributes:
        malformed: datagrams nobody could read. no_room: those of senders beyond SENDERS_MAX.
        dropped: what our own endpoint dropped, by reason.
    """

    counters: dict[str, int]
    gauges: dict[str, dict[str, float]]
    senders: list[SenderRow]
    malformed: int
    no_room: int
    dropped: dict[str, int]


class Ledger:
    """Everything that was reported. No I/O, and no more memory than its bounds allow, whatever comes."""

    def __init__(self) -> None:
        self.senders: dict[str, Sender] = {}
        self.malformed = 0
        self.no_room = 0

    def enter(self, data: bytes) -> bytes | None:
        """Take one datagram; return the answer to send back, if it asks for one."""
        try:
            report = unpack(data)
        except Malformed:
            self.malformed += 1
            return None
        if isinstance(report, Answer):
            self.malformed += 1  # nobody answers a receiver
            return None
        sender = self.senders.get(report.sender)
        if sender is None:
            if len(self.senders) >= SENDERS_MAX:
                self.no_room += 1
                return None
            sender = self.senders[report.sender] = Sender(report.sender)
        if sender.enter(report) and report.asks:
            return pack(Answer(report.instance, report.number))
        return None

    def totals(self, dropped: dict[str, int]) -> Totals:
        counters: dict[str, int] = {}
        for sender in self.senders.values():
            for name, total in sender.counters().items():
                counters[name] = counters.get(name, 0) + total
        names = sorted(self.senders)
        return Totals(
            counters=dict(sorted(counters.items())),
            gauges={name: self.senders[name].gauges() for name in names},
            senders=[self.senders[name].row() for name in names],
            malformed=self.malformed,
            no_room=self.no_room,
            dropped={reason: count for reason, count in dropped.items() if count},
        )


class Receiver(asyncio.DatagramProtocol):
    """Puts what comes into a ledger, and answers where an answer is asked for. An answer is smaller than what it answers."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        answer = self.ledger.enter(data)
        if answer is not None and self._transport is not None:
            self._transport.sendto(answer, addr)

    def totals(self) -> Totals:
        """What the ledger holds, and what the endpoint dropped on the way to it."""
        assert self._transport is not None
        return self.ledger.totals(dict(self._transport.get_extra_info("holdfast.stats").dropped))


# ---------------------------------------------------------------------------------------------------------------------- to see


def table(totals: Totals) -> str:
    rows = [["sender", "received", "lost", "reordered", "duplicates", "restarts"]]
    rows += [[r.sender, *map(str, (r.received, r.lost, r.reordered, r.duplicates, r.restarts))] for r in totals.senders]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
    lines += ["", *(f"{name:<24} {total:>16,}" for name, total in totals.counters.items())]
    lines += [f"{f'{name} of {sender}':<24} {value:>16g}" for sender, gauges in totals.gauges.items() for name, value in gauges.items()]
    lines += [f"dropped here, {reason}: {count:,}" for reason, count in totals.dropped.items()]
    if totals.malformed or totals.no_room:
        lines.append(f"not taken: {totals.malformed:,} malformed, {totals.no_room:,} of too many senders")
    return "\n".join(lines)


def tell(fact: facts.Fact) -> None:
    if isinstance(fact, facts.DatagramsDropped):
        print(f"{fact.address} dropped {fact.count} datagrams: {fact.reason}", file=sys.stderr, flush=True)
    elif isinstance(fact, facts.ProtocolFailed):
        print(f"{fact.address} failed: {fact.error!r}", file=sys.stderr, flush=True)


async def receive(address: str, *, every_s: float, as_json: bool, insecure: bool) -> None:
    """Receive until SIGINT or SIGTERM; print what there is every so often, and at the end."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    receiver = Receiver(Ledger())

    def say(what: object, text: str) -> None:
        print(msgspec.json.encode(what).decode() if as_json else text, flush=True)

    async with holdfast.serve(lambda: receiver, bind=address, insecure=insecure, emit=tell) as server:
        say({"listening": server.addresses[0]}, f"listening at {server.addresses[0]}")
        while not stopped.is_set():
            try:
                async with asyncio.timeout(every_s):
                    await stopped.wait()
            except TimeoutError:
                pass
            totals = receiver.totals()
            say(totals, table(totals) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="Receive metrics over UDP, and keep the totals right.")
    parser.add_argument("address", help="such as udp://127.0.0.1:8125")
    parser.add_argument("--every", type=float, default=5.0, metavar="SECONDS", help="how often to print")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--insecure", action="store_true", help="allow an address other machines can reach: anybody there can report")
    options = parser.parse_args()
    asyncio.run(receive(options.address, every_s=options.every, as_json=options.json, insecure=options.insecure))


if __name__ == "__main__":
    main()
