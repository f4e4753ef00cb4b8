"""`holdfast check`: every setting with its origin, the stack of a client, and no connection that nobody asked for."""

from __future__ import annotations

import dataclasses
import json
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from holdfast.calling.stack import ABOVE, BELOW
from holdfast.cli.check import PARTS, SWITCHES, WIDTH, Row, parts, settings, stack_lines, switched_off
from holdfast.cli.main import run
from holdfast.config import ClientConfig, ServerConfig
from holdfast.policy.fallback import FallbackConfig
from holdfast.policy.hedge import HedgeConfig
from holdfast.policy.limit import LimitConfig
from holdfast.policy.throttle import ThrottleConfig
from tests.cli.processes import holdfast, serving

TWO = "tcp://127.0.0.1:1,tcp://127.0.0.1:2"
NOT_ON_THE_WAY = {"fallback", "explain_every", "stack", "wire", "assembly_max_bytes", "closing_s", "connect"}
"""Of ClientConfig, what says nothing of the way of a call."""


@pytest.fixture
def port() -> Iterator[int]:
    """A port at which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


def said_json(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    said: dict[str, object] = json.loads(capsys.readouterr().out)
    return said


# ------------------------------------------------------------------------------------------------- settings


def test_every_setting_is_there_with_its_value_and_origin() -> None:
    found = {name: value for name, value, _ in settings()}
    assert {origin for _, _, origin in settings()} == {"default"}
    assert found["connect.attempts"] == 3
    assert found["client.deadline_s"] == ClientConfig().deadline_s
    assert found["client.breaker.in_row"] == ClientConfig().breaker.in_row
    assert found["server.listen.backlog"] == ServerConfig().listen.backlog
    for side, config in (("client", ClientConfig()), ("server", ServerConfig())):
        for field in dataclasses.fields(config):
            assert any(name.split(".")[:2] == [side, field.name] for name in found), f"{side}.{field.name} is not printed"
    assert not any(isinstance(value, msgspec.Struct) for value in found.values())


def test_settings_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["client.retry.base_s", "0.025", "default"] in rows
    assert len(rows) == len(list(settings()))
    assert run(["check", "--json"]) == 0
    as_json = said_json(capsys)["settings"]
    assert isinstance(as_json, list)
    assert {"name": "server.drain_s", "value": 30.0, "origin": "default"} in as_json
    assert len(as_json) == len(rows)


# ------------------------------------------------------------------------------------------------- somebody's own config

SHOP = """
from holdfast.config import ClientConfig, HedgeConfig, ServerConfig
from holdfast.handler import Placed

def as_it_is(inner):
    return inner

def edit(stack):
    return stack.before("retry", Placed("mine", as_it_is, "to see that it is there"))

client = ClientConfig(deadline_s=3.0, hedge=HedgeConfig(mode="enforce"), stack=edit)
server = ServerConfig(drain_s=4.0)
"""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module with two configs; it is where the command looks."""
    name = f"shop_{uuid.uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(SHOP)
    monkeypatch.setenv("HOLDFAST_APP_DIR", str(tmp_path))
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield name
    sys.modules.pop(name, None)


def test_a_programs_own_settings_say_which_of_them_are_its_own(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--config", f"{shop}:client", "--json"]) == 0
    found = {each["name"]: (each["value"], each["origin"]) for each in said_json(capsys)["settings"]}  # type: ignore[attr-defined]
    assert {name: found[name][0] for name in found if found[name][1] != "default"} == {
        "client.deadline_s": 3.0,
        "client.hedge.mode": "enforce",
        "client.stack": f"{shop}.edit",
    }
    assert {found[name][1] for name in found} == {"default", f"{shop}:client"}
    assert {name.partition(".")[0] for name in found} == {"connect", "client"}
    assert run(["check", "--config", f"{shop}:server"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["server.drain_s", "4", f"{shop}:server"] in rows
    assert {row[0].partition(".")[0] for row in rows} == {"server"}


def test_the_stack_is_the_one_that_the_program_made_of_it(shop: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--stack", TWO, "--config", f"{shop}:client", "--json"]) == 0
    said = said_json(capsys)
    layers: Any = said["stack"]
    assert [layer["role"] for layer in layers][:4] == ["deadline", "throttle", "mine", "retry"]
    assert layers[0]["parts"][0]["numbers"] == {"deadline_s": 3.0}
    off: Any = said["off"]
    assert "hedge" not in {each["name"] for each in off}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--config", "{shop}:server", "--stack", TWO], 2, "is a ServerConfig: leave --stack out"),
        (["--config", "{shop}:cliend"], 2, "did you mean 'client'?"),
        (["--config", "{shop}:edit"], 2, "is of type function, not a ClientConfig or a ServerConfig"),
        (["--config", "{shop}"], 2, "names no config; write {shop}:config"),
        (["--config", "shops.py"], 2, "write the module's name: shops:config"),
    ],
)
def test_a_config_that_is_none_is_refused_in_a_line(
    shop: str, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["check", *(word.format(shop=shop) for word in words)]) == code
    assert message.format(shop=shop) in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- the stack


def test_the_stack_is_printed_from_the_outside_in(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--stack", TWO]) == 0
    text = capsys.readouterr().out
    heads = [line for line in text.splitlines() if line[:2].strip().isdigit()]
    assert [line.split()[1] for line in heads] == ["deadline", "throttle", "retry", "balance", "breaker", "attempt", "connection"]
    assert max(map(len, text.splitlines())) <= WIDTH
    words = " ".join(text.split())
    for why in [*(why for _, why in (*ABOVE, *BELOW)), "breaker (enforce): in_row=5", "attempts=3", "hedge (off): extra=0.01"]:
        assert why in words
    assert 'limit off: ClientConfig(limit=LimitConfig(mode="enforce")); LimitConfig is in holdfast.policy.limit' in words
    assert "only reports" not in words


def test_with_one_node_it_says_that_the_breaker_only_reports(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--stack", "tcp://127.0.0.1:1"]) == 0
    assert "With one node alone, its breaker only reports" in capsys.readouterr().out


def test_the_stack_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", "--stack", TWO, "--json"]) == 0
    said = said_json(capsys)
    assert list(said) == ["addresses", "stack", "off", "nodes"]
    assert (said["addresses"], said["nodes"]) == (TWO, None)
    layers = said["stack"]
    assert isinstance(layers, list)
    throttle = next(layer for layer in layers if layer["role"] == "throttle")
    assert throttle["parts"][0]["mode"] == "enforce"
    assert throttle["parts"][0]["numbers"] == {k: v for k, v in msgspec.structs.asdict(ThrottleConfig()).items() if k != "mode"}
    assert all(layer["why"] for layer in layers)


def test_each_config_has_its_place_at_one_role() -> None:
    placed = [name for names in PARTS.values() for name in names]
    assert sorted([*placed, *NOT_ON_THE_WAY]) == sorted(field.name for field in dataclasses.fields(ClientConfig))
    assert {role for role, _ in (*ABOVE, *BELOW)} < set(PARTS)


def test_whatever_has_a_mode_can_be_told_how_to_be_turned_on() -> None:
    config = ClientConfig()
    with_mode = {field.name for field in dataclasses.fields(config) if hasattr(getattr(config, field.name), "mode")}
    assert with_mode == set(SWITCHES)


def test_what_is_off_in_shadow_or_empty_says_how_to_turn_it_on_and_that_works() -> None:
    plain = {off.name: off.mode for off in switched_off(ClientConfig())}
    assert plain == {"hedge": "off", "limit": "off", "fallback": "empty"}
    shadow = ClientConfig(throttle=ThrottleConfig(mode="shadow"), fallback=FallbackConfig(mode="off"))
    assert {off.name: off.mode for off in switched_off(shadow)} == {**plain, "throttle": "shadow", "fallback": "off"}
    names = {"ClientConfig": ClientConfig, "HedgeConfig": HedgeConfig, "LimitConfig": LimitConfig, "FallbackConfig": FallbackConfig}
    for off in switched_off(ClientConfig()):
        turned_on = eval(off.turn_on.partition(";")[0], names)
        assert off.name not in {still.name for still in switched_off(turned_on)}


def test_an_address_cannot_drive_the_terminal() -> None:
    assert all(line.isprintable() for line in stack_lines("tcp://\x1b[2J", [Row("retry", "why", parts("retry", ClientConfig()))], []))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--stack", "nonsense://x"], "nonsense"),
        (["--stack", "tcp://10.0.0.1:7000"], "use tls://"),
        (["--connect"], "--connect goes with --stack"),
        (["somebody"], "unexpected extra argument"),
    ],
)
def test_usage_is_exit_2(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["check", *words]) == 2
    assert message in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------- nodes


def test_nothing_is_connected_unless_asked(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as first, socket.socket() as second:
        for listening in (first, second):
            listening.bind(("127.0.0.1", 0))
            listening.listen()
            listening.setblocking(False)
        addresses = ",".join(f"tcp://127.0.0.1:{listening.getsockname()[1]}" for listening in (first, second))
        assert run(["check", "--stack", addresses]) == 0
        for listening in (first, second):
            with pytest.raises(BlockingIOError):
                listening.accept()
    assert capsys.readouterr().err == ""


def test_a_name_is_not_looked_up_unless_asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def asked(*args: object, **kwargs: object) -> None:
        raise AssertionError("somebody looked a name up")

    monkeypatch.setattr(socket, "getaddrinfo", asked)
    assert run(["check", "--stack", "dns+tcp://shop.invalid:7000", "--insecure"]) == 0
    assert "connection" in capsys.readouterr().out


@pytest.mark.slow
def test_nodes_are_shown_when_connected_and_one_that_is_down_says_why(port: int) -> None:
    with serving() as (_, where):
        done = holdfast("check", "--stack", f"{where},tcp://127.0.0.1:{port}", "--connect", "--json")
        assert (done.returncode, done.stderr) == (0, b"")
        up, down = json.loads(done.stdout)["nodes"]
        assert (up["address"], up["state"], up["breaker"], up["last_error"]) == (where, "ready", "closed", "")
        assert up["round_trip_s"] > 0
        assert (down["state"], down["round_trip_s"]) == ("down", None)
        assert "refused" in down["last_error"]
        text = holdfast("check", "--stack", where, "--connect").stdout.decode().splitlines()
    assert text[-2].split() == ["node", "state", "for", "breaker", "round", "trip", "load", "last", "error"]
    assert text[-1].startswith(f"{where}  ready")


@pytest.mark.slow
def test_when_no_node_can_be_reached_it_is_exit_3_and_the_nodes_are_printed_all_the_same(port: int) -> None:
    done = holdfast("check", "--stack", f"tcp://127.0.0.1:{port}", "--connect", "--json")
    assert done.returncode == 3
    assert done.stderr.startswith(b"holdfast: unavailable: ")
    assert json.loads(done.stdout)["nodes"][0]["state"] == "down"


@pytest.mark.slow
def test_a_node_that_never_answers_is_waited_for_no_longer_than_asked() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        done = holdfast("check", "--stack", f"tcp://127.0.0.1:{silent.getsockname()[1]}", "--connect", "--deadline", "200ms", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["nodes"][0]["state"] == "connecting"
