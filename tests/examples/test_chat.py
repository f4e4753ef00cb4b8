"""The chat and the echo: what their docstrings promise, with real connections, and once as real programs."""

from __future__ import annotations

import asyncio
import importlib
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest

import holdfast
from holdfast.facts import Fact, Stopped
from holdfast.framing import Lines
from holdfast.net import Framed
from tests.examples.conductor import ENVIRONMENT, EXAMPLES, PATIENCE_S, python, serving


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.setattr(sys, "path", [str(EXAMPLES), *sys.path])
    yield importlib.import_module("chat")
    sys.modules.pop("chat", None)


class Guest(Framed):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(Lines(max_bytes=100_000), send_max_bytes=2**30)
        self.lines: list[str] = []
        self.over = False
        self._changed: list[asyncio.Future[None]] = []

    def message_received(self, message: bytes) -> None:
        self.lines.append(message.decode())
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        self.over = True
        self._wake()

    def _wake(self) -> None:
        waiting, self._changed = self._changed, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def hears(self, line: str) -> None:
        await self.until(lambda: line in self.lines)

    async def until(self, state: Any) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not state():
                waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._changed.append(waiter)
                await waiter

    def say(self, line: str) -> None:
        self.send(line.encode())


class Party:
    """A room that is served, and its guests."""

    def __init__(self, address: str, facts: list[Fact]) -> None:
        self.address = address
        self.facts = facts

    async def guest(self, name: str) -> Guest:
        _, guest = await holdfast.dial(Guest, self.address)
        guest.say(name)
        await guest.until(lambda: guest.lines)
        return guest


@asynccontextmanager
async def party(chat: ModuleType) -> AsyncIterator[Party]:
    facts: list[Fact] = []
    room = chat.Room()
    config = holdfast.ServerConfig(drain_s=10.0)
    async with holdfast.serve(lambda: chat.Talker(room), bind="tcp://127.0.0.1:0", config=config, emit=facts.append) as server:
        yield Party(server.addresses[0], facts)


async def test_what_one_says_all_hear(chat: ModuleType) -> None:
    async with party(chat) as here:
        ada = await here.guest("ada")
        bob = await here.guest("bob")
        await ada.hears("* bob came")
        bob.say("hello, all")
        for guest in (ada, bob):
            await guest.hears("bob: hello, all")
        ada.say("/who")
        await ada.hears("* here: ada, bob")
        bob.say("/quit")
        await bob.until(lambda: bob.over)
        assert bob.lines[-1] == "* goodbye"
        await ada.hears("* bob left")


@pytest.mark.parametrize(
    ("name", "why"),
    [("ada", "* ada is here already"), ("not a name", "* a name has up to 20 letters"), ("9lives", "* a name has up to 20 letters")],
)
async def test_a_name_that_cannot_be_is_asked_for_again(chat: ModuleType, name: str, why: str) -> None:
    async with party(chat) as here:
        await here.guest("ada")
        late = await here.guest(name)
        assert late.lines[0].startswith(why)
        late.say("eve")
        await late.until(lambda: any(line.startswith("* hello eve") for line in late.lines))


async def test_a_line_that_is_too_long_ends_its_connection_with_a_reason(chat: ModuleType) -> None:
    async with party(chat) as here:
        ada, bob = await here.guest("ada"), await here.guest("bob")
        bob.say("x" * 1001)
        await bob.until(lambda: bob.over)
        assert bob.lines[-1] == "* a line has at most 1000 bytes; goodbye"
        await ada.hears("* bob left")


async def test_a_slow_reader_is_dropped_and_holds_nobody_back(chat: ModuleType) -> None:
    async with party(chat) as here:
        ada, slow = await here.guest("ada"), await here.guest("slow")
        slow.transport.pause_reading()
        said = 0
        while not any("does not read, and was dropped" in line for line in ada.lines):
            for _ in range(100):
                ada.say("y" * 990)
                said += 1
            await ada.until(lambda: len([line for line in ada.lines if line.startswith("ada: ")]) == said)  # noqa: B023
        slow.transport.abort()
        ada.say("/who")
        await ada.hears("* here: ada")


async def test_a_room_that_goes_down_says_goodbye(chat: ModuleType) -> None:
    async with party(chat) as here:
        guests = [await here.guest(name) for name in ("ada", "bob")]
    for guest in guests:
        await guest.until(lambda guest=guest: guest.over)
        assert guest.lines[-1] == "* the server is going down; goodbye"
    assert here.facts[-1] == Stopped(0)


# --------------------------------------------------------------------------------------------------------------------- as programs


@pytest.mark.slow
def test_the_echo_runs_in_one_process_and_in_two() -> None:
    done = python("echo.py")
    assert (done.stdout, done.stderr) == ("hello from one process\n", "")
    with serving("echo:Echo") as served:
        done = python("echo.py", served.address, "hello from another")
    assert (done.stdout, done.stderr) == ("hello from another\n", "")


@pytest.mark.slow
def test_two_programs_chat_until_the_server_says_goodbye() -> None:
    command = [sys.executable, "-m", "holdfast", "serve", "chat:talker", "--bind", "tcp://127.0.0.1:0", "--json"]
    pipes: dict[str, Any] = {"cwd": EXAMPLES, "env": ENVIRONMENT, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as server:
        assert server.stdout is not None
        ready = json.loads(next(line for line in server.stdout if '"ready"' in line))
        assert (ready["service"], ready["methods"]) == ("talker", 0)
        client = [sys.executable, "chat_client.py", ready["addresses"][0]]
        with (
            subprocess.Popen([*client, "ada"], stdin=subprocess.PIPE, **pipes) as ada,
            subprocess.Popen([*client, "bob"], stdin=subprocess.PIPE, **pipes) as bob,
        ):
            try:
                for each in (ada, bob):
                    assert "* hello" in line_with(each, "* hello")
                print("can you hear me?", file=bob.stdin, flush=True)
                assert line_with(ada, ": ") == "bob: can you hear me?\n"
                server.send_signal(signal.SIGTERM)
                assert line_with(ada, "goodbye") == "* the server is going down; goodbye\n"
                assert server.wait(PATIENCE_S) == 0
                for each in (ada, bob):
                    assert each.stdin is not None
                    each.stdin.close()
                    assert each.wait(PATIENCE_S) == 0
            finally:
                for process in (ada, bob, server):
                    process.kill()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    assert process.stdout is not None
    return next(line for line in process.stdout if text in line)
