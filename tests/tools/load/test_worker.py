"""One client process, without its pipes, against a real server; and its life with them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from holdfast.server import serve
from holdfast.tools.load.calls import Target
from holdfast.tools.load.fleet import MODULE
from holdfast.tools.load.messages import Failed, Finished, FromProcess, Job, Ready, Start, Stop, encode, make_framing, read_by_parent
from holdfast.tools.load.plan import Plan
from holdfast.tools.load.worker import Inbox, Worker
from tests.cli.processes import PATIENCE_S
from tests.tools.load.helpers import shop

SHORT = Plan(rate=200, duration_s=0.1, warmup_s=0.0, connections=3)


def job(address: str, **changed: Any) -> Job:
    target = Target(method="shop.price", shape="unary", words=("n={i}",), sample={"n": 0})
    return Job(**{"address": address, "plan": SHORT, "target": target, **changed})


async def told(*messages: Any) -> list[FromProcess]:
    """What a worker says when it is told these."""
    said: list[FromProcess] = []
    worker = Worker(said.append)
    for message in messages:
        worker.told(message)
    await worker.work()
    return said


async def test_it_connects_says_so_runs_and_says_what_it_counted() -> None:
    service, seen = shop()
    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        said = await told(job(server.addresses[0]), Start(time.monotonic()))
    assert [type(each) for each in said] == [Ready, Finished]
    assert isinstance(said[1], Finished)
    assert said[1].measured.ok == 20
    assert sorted(seen) == list(range(20))


async def test_a_scenario_runs_over_its_connections(tmp_path: Path) -> None:
    path = tmp_path / "mix.py"
    path.write_text(
        "async def one(client, number):\n    await client.call('shop.price', n=number)\n"
        "async def two(client, number):\n    await client.call('shop.refuse', n=number)\nmix = {one: 1, two: 1}\n"
    )
    service, _ = shop()
    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        said = await told(job(server.addresses[0], target=None, scenario=str(path)), Start(time.monotonic()))
    assert isinstance(said[1], Finished)
    counted = {step.name: (step.ok, step.errors) for step in said[1].measured.steps}
    assert counted["one"][1] == {}
    assert counted["two"] == (0, {"aborted": 20 - counted["one"][0]})


async def test_stopped_before_it_began_it_counts_nothing() -> None:
    service, _ = shop()
    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        said = await told(job(server.addresses[0]), Stop(), Start(time.monotonic()))
    assert isinstance(said[1], Finished)
    assert said[1].measured.interrupted


@pytest.mark.parametrize(
    ("changed", "kind", "message"),
    [
        ({"target": Target(method="shop.upload", shape="client_stream")}, "ConfigError", "takes a stream"),
        ({"target": None, "scenario": "nowhere.py"}, "ConfigError", "there is no scenario"),
        (
            {"target": Target(method="shop.price", shape="unary", words=("n={file:nowhere.txt}",), sample={"n": 0})},
            "ConfigError",
            "nowhere.txt",
        ),
    ],
)
async def test_what_it_cannot_do_it_says(changed: dict[str, Any], kind: str, message: str) -> None:
    service, _ = shop()
    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        (said,) = await told(job(server.addresses[0], **changed))
    assert isinstance(said, Failed)
    assert said.kind == kind
    assert message in said.message


async def test_nobody_there_is_unavailable() -> None:
    service, _ = shop()
    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        address = server.addresses[0]
    plan = Plan(rate=1, deadline_s=0.05)
    (said,) = await told(job(address, plan=plan))
    assert isinstance(said, Failed)
    assert said.kind == "Unavailable"


def test_an_inbox_tells_messages_in_order_however_they_are_cut_and_the_end() -> None:
    heard: list[object] = []
    inbox = Inbox(heard.append, lambda: heard.append("end"))
    data = encode(Start(1.0)) + encode(Stop())
    for byte in data:
        inbox.data_received(bytes([byte]))
    inbox.connection_lost(None)
    assert heard == [Start(1.0), Stop(), "end"]


def started() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-m", MODULE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_process_whose_parent_is_gone_ends() -> None:
    process = started()
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1


@pytest.mark.slow
async def test_what_a_scenario_prints_does_not_get_among_the_messages(tmp_path: Path) -> None:
    path = tmp_path / "mix.py"
    path.write_text("print('hello from the scenario')\nasync def one(client, number):\n    print('one')\nmix = {one: 1}\n")
    service, _ = shop()
    async with serve(service, bind="tcp://127.0.0.1:0") as server:
        process = started()
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(encode(job(server.addresses[0], target=None, scenario=str(path))))
        process.stdin.write(encode(Start(time.monotonic())))
        process.stdin.flush()
        out = await asyncio.to_thread(process.stdout.read)
        errors = await asyncio.to_thread(process.stderr.read)
        process.stdin.close()
        process.stdout.close()
        process.stderr.close()
        assert process.wait(PATIENCE_S) == 0
    said = [read_by_parent(message) for message in make_framing().feed(out)]
    assert [type(each).__name__ for each in said if type(each).__name__ != "Progress"] == ["Ready", "Finished"]
    assert b"hello from the scenario" in errors
