"""Faults planted in what is fuzzed, each found by corpus and seeds alone: a harness that finds nothing must have something to find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from holdfast.errors import ProtocolError
from holdfast.net.tls import TlsLink
from holdfast.wire import ByteBudget, Connection, frames, receiving
from holdfast.wire.inbox import Inbox
from holdfast.wire.machine import Machine
from holdfast.wire.outbox import Outbox
from tests.fuzz import engine
from tests.fuzz.harnesses import addresses, codec, framings, settings
from tests.fuzz.harnesses import frames as on_frames


def findings(name: str) -> list[str]:
    watch = engine.Watch(engine.harness(name), slow_above_s=60.0)
    for data in engine.inputs(watch.harness):
        watch.run(data)
    return list(watch.found)


def after(original: Callable[..., Any], act: Callable[..., Any]) -> Callable[..., Any]:
    """The original, and then something more, which sees what it returned."""

    def planted(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        changed = act(self, result, *args)
        return result if changed is None else changed

    return planted


PLANTED: dict[str, tuple[object, str, Any]] = {
    "budget is not given back": (ByteBudget, "give", lambda self, count: None),
    "budget is given back twice": (
        ByteBudget,
        "give",
        after(ByteBudget.give, lambda self, _, count: setattr(self, "used_bytes", self.used_bytes - 1)),
    ),
    "connection credit is lost": (Inbox, "used", lambda self, count: None),
    "credit is not asked for": (Inbox, "spend", after(Inbox.spend, lambda self, _, count: True)),
    "an exception comes out": (Machine, "_check_known_id", lambda self, kind, call_id: {}[call_id]),
    "a rest is thrown away": (Connection, "receive_data", after(Connection.receive_data, lambda self, used, data: len(data))),
    "a body points into the buffer": (receiving, "bytes", lambda view: view),
    "parsing goes on after an error": (Machine, "_over", lambda self: False),
    "a long frame is not refused": (receiving.Receiving, "_too_long", lambda self, kind, length: None),
    "a frame follows the answer": (
        Connection,
        "send_reply",
        after(
            Connection.send_reply, lambda self, _, call, *rest: self._ready.append(frames.pack_frame(frames.CREDIT, 0, call.id, bytes(4)))
        ),
    ),
    "calls come back twice": (Machine, "lost", lambda self: list(self.calls.values())),
    "pieces go out of turn": (Outbox, "_emit", after(Outbox._emit, lambda self, size, outgoing, room: self.ready.reverse())),
    "a frame is longer than the peer takes": (
        Outbox,
        "open",
        lambda self, frame_max, window: Outbox.__dict__["frame_max_bytes"].__set__(self, 1 << 20),
    ),
}


@pytest.mark.parametrize("fault", PLANTED)
def test_a_fault_in_the_machine_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, name, planted = PLANTED[fault]
    monkeypatch.setattr(owner, name, planted, raising=False)
    assert findings("connection")


def refuses(*args: Any) -> Any:
    raise ProtocolError("no")


def breaks(*args: Any) -> Any:
    raise KeyError("no")


ELSEWHERE: dict[str, tuple[str, object, str, Any]] = {
    "a wrong check sum passes": ("frames", on_frames, "unseal", lambda data, limit: (bytes(data), len(data), False)),
    "settings out of range": ("settings", settings, "decode_settings", lambda payload: settings.Settings(heartbeat_s=0.0)),
    "an error of another family": ("settings", settings, "decode_status", breaks),
    "trailers that raise": ("settings", settings, "decode_trailers", refuses),
    "an address that reads back as another": ("addresses", addresses.Address, "__str__", lambda self: f"tcp://{self.host}:1"),
    "a decoder that lets anything through": ("codec", codec, "plain_decode", breaks),
    "what was read cannot be said": ("codec", codec.MethodCodec, "raw_args", True),
    "a framing that keeps too much": ("framings", framings.Framing, "waiting_bytes", 1 << 20),
    "messages that depend on the cut": ("framings", framings.Framing, "feed", lambda self, data: [bytes(data)]),
    "a cut stream taken for an end": ("tls", TlsLink, "eof_received", TlsLink._ended),
    "an end that nobody is told": ("tls", TlsLink, "_ended", lambda self: None),
    "an exception out of TLS": ("tls", TlsLink, "_broken", breaks),
}


@pytest.mark.parametrize("fault", ELSEWHERE)
def test_a_fault_elsewhere_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, owner, attribute, planted = ELSEWHERE[fault]
    monkeypatch.setattr(owner, attribute, planted)
    assert findings(name)


def test_every_command_of_the_machine_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, int] = {}

    def counted(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            given[name] = given.get(name, 0) + 1
            return original(*args, **kwargs)

        return call

    names = [name for name in dir(Connection) if not name.startswith("_") and callable(getattr(Connection, name))]
    for name in names:
        monkeypatch.setattr(Connection, name, counted(name, getattr(Connection, name)))
    assert findings("connection") == []
    assert [name for name in names if name not in given] == [], "the harness never gives these commands: add them to commands.py"
