"""A stack is a value: ordered, printable, edited by role."""

from __future__ import annotations

import pytest

from holdfast.errors import ConfigError
from holdfast.handler import Handler, Layer, MethodInfo, Placed, Reply, Request, Stack


def marks(name: str) -> Layer:
    def layer(handler: Handler) -> Handler:
        async def send(request: Request) -> Reply:
            request.extra.append(name)
            return await handler(request)

        return send

    return layer


async def ends(request: Request) -> Reply:
    return Reply(",".join(request.extra).encode())


def request() -> Request:
    return Request(MethodInfo("shop.place"), b"", False, None, 1, extra=[])


STACK = Stack([Placed("outer", marks("outer"), "sees everything"), Placed("inner", marks("inner"), "next to the wire")])


async def test_the_first_layer_is_the_outermost() -> None:
    assert (await STACK.around(ends)(request())).body == b"outer,inner"


async def test_a_layer_is_replaced_or_left_out_by_its_role_and_the_stack_stays_as_it_was() -> None:
    assert (await STACK.replace("inner", marks("other")).around(ends)(request())).body == b"outer,other"
    assert (await STACK.without("outer").around(ends)(request())).body == b"inner"
    assert [placed.role for placed in STACK] == ["outer", "inner"]


async def test_a_layer_is_put_in_outside_or_inside_of_a_role_and_the_stack_stays_as_it_was() -> None:
    mine = Placed("mine", marks("mine"), "to see what comes by")
    assert (await STACK.before("outer", mine).around(ends)(request())).body == b"mine,outer,inner"
    assert (await STACK.before("inner", mine).around(ends)(request())).body == b"outer,mine,inner"
    assert (await STACK.after("outer", mine).around(ends)(request())).body == b"outer,mine,inner"
    assert (await STACK.after("inner", mine).around(ends)(request())).body == b"outer,inner,mine"
    assert [placed.role for placed in STACK] == ["outer", "inner"]


@pytest.mark.parametrize(
    "edit",
    [
        lambda: STACK.without("retry"),
        lambda: STACK.replace("retry", marks("x")),
        lambda: STACK.before("retry", Placed("x", marks("x"), "")),
        lambda: STACK.after("retry", Placed("x", marks("x"), "")),
    ],
)
def test_a_role_that_is_not_there_is_an_error_that_names_those_that_are(edit: object) -> None:
    with pytest.raises(ConfigError, match="'retry'; it has outer, inner"):
        edit()  # type: ignore[operator]


def test_a_role_stands_once() -> None:
    with pytest.raises(ConfigError, match="two layers of the role 'outer'"):
        Stack([*STACK, Placed("outer", marks("x"), "again")])
    with pytest.raises(ConfigError, match="two layers of the role 'outer'"):
        STACK.after("inner", Placed("outer", marks("x"), "again"))


def test_it_describes_itself() -> None:
    assert STACK.describe() == "outer        sees everything\ninner        next to the wire"
