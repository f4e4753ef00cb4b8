"""What parent and process say to each other survives the way."""

from __future__ import annotations

import pytest

from holdfast.errors import ConfigError, DeadlineExceeded, HoldfastError, InvalidArgument, MethodNotFound, Refused, Unavailable
from holdfast.net.trust import TlsConfig
from holdfast.tools.load.calls import Target
from holdfast.tools.load.messages import (
    Failed,
    Finished,
    FromParent,
    FromProcess,
    Job,
    Ready,
    Start,
    Stop,
    Tls,
    encode,
    error_of,
    failure,
    make_framing,
    read_by_parent,
    read_by_process,
)
from holdfast.tools.load.plan import Plan
from holdfast.tools.load.run import Progress
from holdfast.tools.load.tally import Slot
from tests.tools.load.helpers import histogram, measured

TLS = TlsConfig(certificate="c.pem", key="k.pem", key_password="secret", trust="ca.pem", server_name="shop.example.com")
JOB = Job(
    address="tls://127.0.0.1:7000",
    plan=Plan(rate=5.5, seed=7),
    process=3,
    target=Target(method="shop.place", shape="unary", words=("a={i}",), sample={"a": "0", "blob": b"\x00\xff"}, metadata={"k": "v"}),
    tls=Tls.of(TLS),
)


@pytest.mark.parametrize("message", [JOB, Start(12.5), Stop()])
def test_what_the_parent_says(message: FromParent) -> None:
    (data,) = make_framing().feed(encode(message))
    assert read_by_process(data) == message


@pytest.mark.parametrize(
    "message",
    [
        Ready(),
        Progress(1.0, 2, 3, 4, Slot(5, 6, histogram(0.5).snapshot())),
        Finished(measured(seconds=[0.1, 0.2], errors={"aborted": 1})),
        Failed("ConfigError", "no"),
    ],
)
def test_what_a_process_says(message: FromProcess) -> None:
    (data,) = make_framing().feed(encode(message))
    assert read_by_parent(data) == message


def test_the_clients_part_of_a_tls_configuration_comes_back() -> None:
    assert Tls.of(TLS).config() == TLS


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (Unavailable("no"), Unavailable),
        (DeadlineExceeded("no"), Unavailable),  # nobody answered while it connected
        (ConfigError("no"), ConfigError),
        (InvalidArgument("no"), InvalidArgument),
        (MethodNotFound("no"), MethodNotFound),
        (Refused("no"), HoldfastError),
    ],
)
def test_an_error_is_told_by_its_kind(error: HoldfastError, kind: type[HoldfastError]) -> None:
    told = error_of(failure(error))
    assert type(told) is kind
    assert str(told) == "no"
