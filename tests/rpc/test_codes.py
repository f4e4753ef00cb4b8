"""An error that crosses the wire arrives as the right class with the facts the sender gave, and nothing a peer sends breaks the reader."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.errors import (
    CODE_NAMES,
    BadReply,
    Cancelled,
    ConfigError,
    DeadlineExceeded,
    Executed,
    HoldfastError,
    InternalError,
    InvalidArgument,
    MethodNotFound,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    PermissionDenied,
    ProtocolError,
    Refused,
    Unauthenticated,
    Unavailable,
)
from holdfast.rpc import codes
from holdfast.rpc.codes import decode_error, encode_error, error_from_wire, error_to_wire


class Stock(msgspec.Struct):
    sku: str
    left: int


def test_numbers_are_grpc_s() -> None:
    assert codes.NUMBER_OF["cancelled"] == 1
    assert codes.NUMBER_OF["deadline_exceeded"] == 4
    assert codes.NUMBER_OF["resource_exhausted"] == 8
    assert codes.NUMBER_OF["unimplemented"] == 12
    assert codes.NUMBER_OF["unavailable"] == 14
    assert codes.NUMBER_OF["unauthenticated"] == 16
    assert {codes.NAME_OF[n] for n in codes.NUMBER_OF.values()} == set(CODE_NAMES)


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        (InvalidArgument("m"), InvalidArgument),
        (NotFound("m"), NotFound),
        (MethodNotFound("m"), MethodNotFound),
        (Unauthenticated("m"), Unauthenticated),
        (PermissionDenied("m"), PermissionDenied),
        (Refused("m"), Refused),
        (Overloaded("m"), Overloaded),
        (Unavailable("m"), Unavailable),
        (OutcomeUnknown("m"), OutcomeUnknown),
        (DeadlineExceeded("m"), DeadlineExceeded),
        (Cancelled("m"), Cancelled),
        (InternalError("m"), InternalError),
        (BadReply("m"), BadReply),
        (ProtocolError("m"), InternalError),
        (ConfigError("m"), HoldfastError),
        (HoldfastError("m"), HoldfastError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, HoldfastError) else "",
)
def test_class_code_and_executed_survive(sent: HoldfastError, arrives: type[HoldfastError]) -> None:
    got = decode_error(encode_error(sent))
    assert type(got) is arrives
    assert (got.code, got.message, got.executed) == (sent.code, "m", sent.executed)
    assert got.remote
    assert not sent.remote


def test_unavailable_is_read_by_whether_the_call_ran() -> None:
    assert type(error_from_wire(14, "", "no")) is Unavailable
    assert type(error_from_wire(14, "", "maybe")) is OutcomeUnknown
    assert error_from_wire(14, "", "no").retry == "safe"


def test_executed_narrows_retry() -> None:
    assert decode_error(encode_error(DeadlineExceeded("late", executed="no"))).retry == "safe"
    assert decode_error(encode_error(Overloaded("full", executed="maybe"))).retry == "if_idempotent"


def test_a_refusal_carries_its_details() -> None:
    got = decode_error(encode_error(Refused("sold out", code="resource_exhausted", details=Stock("A", 0), retry_after_s=1.5)))
    assert isinstance(got, Refused)
    assert got.code == "resource_exhausted"
    assert got.details == {"sku": "A", "left": 0}
    assert got.details_as(Stock) == Stock("A", 0)
    assert got.retry_after_s == 1.5


def test_details_that_cannot_travel_are_left_out_and_said() -> None:
    for details in (object(), "x" * (codes.DETAILS_MAX_BYTES + 1), 2**70):
        got = decode_error(encode_error(Refused("no", details=details)))
        assert isinstance(got, Refused)
        assert got.details is None
        assert got.message.startswith("no (its details did not travel: ")


def test_the_payload_says_only_what_differs() -> None:
    assert msgspec.msgpack.decode(encode_error(InternalError("boom"))) == {"c": 13, "m": "boom"}
    assert msgspec.msgpack.decode(encode_error(Overloaded("", retry_after_s=0.25))) == {"c": 8, "x": 0, "a": 250}
    assert msgspec.msgpack.decode(encode_error(Refused("n", details=[1]))) == {"c": 9, "m": "n", "x": 2, "r": True, "d": [1]}


def test_unknown_keys_are_skipped_and_unknown_codes_read() -> None:
    got = decode_error(msgspec.msgpack.encode({"c": 99, "m": "new", "zz": [1, {"a": 2}]}))
    assert type(got) is HoldfastError
    assert (got.code, got.message) == ("unknown", "new")


@pytest.mark.parametrize("retry_after_s", [-1.0, float("nan"), None])
def test_a_senseless_retry_after_is_not_sent(retry_after_s: float | None) -> None:
    assert error_to_wire(Overloaded("", retry_after_s=retry_after_s)).retry_after_ms is None


def test_retry_after_is_bounded_both_ways() -> None:
    assert error_to_wire(Overloaded("", retry_after_s=float("inf"))).retry_after_ms == codes.RETRY_AFTER_MAX_MS
    assert decode_error(msgspec.msgpack.encode({"c": 8, "a": 10**15})).retry_after_s == codes.RETRY_AFTER_MAX_MS / 1000
    assert decode_error(msgspec.msgpack.encode({"c": 8, "a": -5})).retry_after_s == 0


@pytest.mark.parametrize(
    "body", [b"", b"\xc1", b"\x80", b"\x93\x01\x02\x03", b"\x91" * 100_000, b"\x82\xa1c\x01\xa1m\xa1\xff", b"\x81\xa1c\xa1x"]
)
def test_a_payload_that_cannot_be_read_is_an_error_of_its_own(body: bytes) -> None:
    got = decode_error(body)
    assert type(got) is HoldfastError
    assert (got.code, got.executed, got.remote) == ("unknown", "maybe", True)
    assert "cannot be read" in got.message


@given(st.binary(max_size=64))
def test_any_bytes_give_an_error_to_raise(body: bytes) -> None:
    assert isinstance(decode_error(memoryview(body)), HoldfastError)


@given(st.text(alphabet=st.characters(), max_size=3000), st.integers(0, 3))
def test_messages_are_cut_between_characters(text: str, times: int) -> None:
    cut = codes.cut_message(text * times)
    assert len(cut.encode()) <= codes.MESSAGE_MAX_BYTES
    if len((text * times).encode("utf-8", "replace")) <= codes.MESSAGE_MAX_BYTES:
        assert cut == (text * times).encode("utf-8", "replace").decode()


def test_a_long_message_ends_with_an_ellipsis() -> None:
    got = decode_error(encode_error(Refused("好" * 5000)))
    assert len(got.message.encode()) <= codes.MESSAGE_MAX_BYTES
    assert got.message.endswith("好…")
    assert codes.cut_message("\ud800") == "?"


@given(
    st.sampled_from(CODE_NAMES),
    st.text(max_size=50),
    st.sampled_from(("no", "maybe", "yes")),
    st.none() | st.integers(0, 1000).map(lambda ms: ms / 1000),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=9), lambda s: st.lists(s, max_size=3), max_leaves=9
    ),
)
def test_refusals_round_trip(code: Any, message: str, executed: Executed, retry_after_s: float | None, details: object) -> None:
    sent = Refused(message, code=code, executed=executed, retry_after_s=retry_after_s, details=details)
    got = decode_error(encode_error(sent))
    assert isinstance(got, Refused)
    assert (got.code, got.message, got.executed, got.retry_after_s, got.details) == (code, message, executed, retry_after_s, details)
