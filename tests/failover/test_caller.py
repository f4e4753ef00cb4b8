"""A client process, with a link that does what the test wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from bench.failover import caller
from bench.failover.accounts import Call, Written, read
from bench.failover.caller import Records, Spec
from bench.failover.contenders import Outcome


class FakeLink:
    """Answers nothing until it is let; counts what comes."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.let = asyncio.Event()
        self.enough = asyncio.Event()
        self.wanted = 5
        self.raises: Exception | None = None

    async def ready(self) -> None:
        """Be ready."""

    async def call(self, call_id: int, idempotent: bool) -> tuple[Outcome, str]:
        """Note the call; wait."""
        self.asked.append(call_id)
        if len(self.asked) >= self.wanted:
            self.enough.set()
        await self.let.wait()
        if self.raises is not None:
            raise self.raises
        return "ok", ""

    async def ticks(self, number: int) -> AsyncGenerator[int]:
        """Give one item, then end."""
        self.asked.append(number)
        if len(self.asked) >= self.wanted:
            self.enough.set()
        yield number

    async def close(self) -> None:
        """Close nothing."""


def spec(path: Path) -> Spec:
    return Spec(contender="holdfast", ports=[1], number=3, behind_s=0.0, rate=2000.0, streams=0, records=str(path))


async def poured(link: FakeLink, path: Path) -> Written:
    """Pour until the link has what it wants, then let everything end; return what was written."""
    records, calls = Records(str(path)), set[asyncio.Task[None]]()
    pouring = asyncio.create_task(caller.pour(link, spec(path), time.monotonic(), records, calls))
    await link.enough.wait()
    pouring.cancel()
    await asyncio.gather(pouring, return_exceptions=True)
    link.let.set()
    await asyncio.gather(*calls)
    records.write()
    return read([path], [])


def ended(found: Written) -> dict[int, Call]:
    return {call.call_id: call for call in found.calls}


async def test_calls_are_sent_though_none_before_has_an_answer_and_each_is_written_down(tmp_path: Path) -> None:
    link = FakeLink()
    found = ended(await poured(link, tmp_path / "records"))
    assert link.asked[:5] == [(3 << 32) + sequence for sequence in range(5)]
    assert sorted(found) == link.asked
    assert {call.outcome for call in found.values()} == {"ok"}
    gaps = [found[after].planned_at - found[before].planned_at for before, after in zip(link.asked, link.asked[1:], strict=False)]
    assert gaps == pytest.approx([1 / 2000.0] * len(gaps), abs=2e-4)  # when they were due, whenever they were sent


async def test_a_client_that_has_collapsed_fails_what_it_does_not_send(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "IN_FLIGHT_MAX", 2)
    link, path = FakeLink(), tmp_path / "records"
    link.wanted = 2
    records, calls = Records(str(path)), set[asyncio.Task[None]]()
    refused = asyncio.Event()
    note = records.call

    def noted(call_id: int, planned_at: float, outcome: Outcome, why: str) -> None:
        note(call_id, planned_at, outcome, why)
        refused.set()

    monkeypatch.setattr(records, "call", noted)
    pouring = asyncio.create_task(caller.pour(link, spec(path), time.monotonic(), records, calls))
    await refused.wait()
    pouring.cancel()
    link.let.set()
    await asyncio.gather(pouring, *calls, return_exceptions=True)
    records.write()
    first = read([path], []).calls[0]
    assert (first.call_id, first.outcome) == ((3 << 32) + 2, "not_executed")
    assert first.why.startswith("not sent")
    assert len(link.asked) == 2


async def test_an_error_that_nobody_foresaw_is_an_outcome_nobody_knows(tmp_path: Path) -> None:
    link = FakeLink()
    link.raises = ValueError("what is this")
    found = ended(await poured(link, tmp_path / "records"))
    assert {(call.outcome, call.why) for call in found.values()} == {("unknown", "unforeseen: ValueError('what is this')")}


async def test_a_call_that_is_given_up_at_the_end_is_written_down(tmp_path: Path) -> None:
    link, path = FakeLink(), tmp_path / "records"
    link.wanted = 1
    records = Records(str(path))
    task = asyncio.create_task(caller.one(link, 9, time.monotonic(), records))
    await link.enough.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    records.write()
    assert [(call.call_id, call.outcome) for call in read([path], []).calls] == [(9, "unknown")]


async def test_a_stream_that_ends_is_broken_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "REOPEN_AFTER_S", 0.0)
    link, path = FakeLink(), tmp_path / "records"
    link.wanted = 3
    records = Records(str(path))
    watching = asyncio.create_task(caller.watch(link, 4, records))
    await link.enough.wait()
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    records.write()
    assert link.asked == [4, 4, 4]
    assert [why for _, why in read([path], []).broken][:2] == ["it ended", "it ended"]
