"""What msgspec complains about reads as a sentence about the user's call."""

from __future__ import annotations

import msgspec
import pytest

from holdfast.errors import BadReply, HoldfastError
from holdfast.rpc.contract import Contract
from holdfast.rpc.validation import argument_error, blame, explain, parse_misfit


@pytest.mark.parametrize(
    ("text", "what", "path"),
    [
        ("Expected `int`, got `str` - at `$.order.qty`", "expected int, got str", "order.qty"),
        ("Expected `str`, got `int` - at `key` in `$.m`", "expected str, got int", "m (a key)"),
        ("Expected `int`, got `str` - at `$.orders[0].qty`", "expected int, got str", "orders[0].qty"),
        ("Expected `int`, got `str` - at `$[...]`", "expected int, got str", "[...]"),
        ("Expected `int` >= 1", "expected int >= 1", ""),
        ("Object missing required field `qty` - at `$.order`", "missing field 'qty'", "order"),
        ("Object contains unknown field `a` - at `$.b` - at `$.c`", "unknown field 'a` - at `$.b'", "c"),
    ],
)
def test_messages_and_paths(text: str, what: str, path: str) -> None:
    assert parse_misfit(msgspec.ValidationError(text)) == (what, path)


def test_failures_that_are_not_about_types() -> None:
    assert explain(RecursionError()) == "nested too deeply"
    assert explain(MemoryError()) == "too large for the memory there is"
    assert explain(msgspec.DecodeError("MessagePack data is malformed: invalid opcode")) == "invalid opcode"


def test_a_missing_argument_is_not_called_a_field() -> None:
    contract = Contract(name="shop.place", signature="place(order: Order) -> str")
    error = argument_error(contract, msgspec.ValidationError("Object missing required field `order`"))
    assert str(error) == "shop.place(): missing argument 'order'; the signature is place(order: Order) -> str"


def test_blame_puts_the_path_last() -> None:
    error: HoldfastError = blame(BadReply, "the reply of a.b is not Order")(
        msgspec.ValidationError("Expected `int`, got `str` - at `$.qty`")
    )
    assert isinstance(error, BadReply)
    assert str(error) == "the reply of a.b is not Order: expected int, got str at qty"
