"""Fallbacks: for which errors, which one, and that none hides a call that may have taken effect."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from holdfast.errors import (
    ConfigError,
    DeadlineExceeded,
    HoldfastError,
    InternalError,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    Refused,
    Unavailable,
)
from holdfast.facts import Fact, FallbackUsed
from holdfast.handler import MethodInfo, Mode, Reply, Request
from holdfast.policy.fallback import Fallback, FallbackConfig, Fallbacks, as_fallback, fallback_layer
from holdfast.sim.cancelling import Cut, cancel_everywhere
from holdfast.sim.world import World


@pytest.mark.parametrize(
    ("error", "idempotent", "plain"),
    [
        (Unavailable(), True, True),
        (Overloaded(), True, True),
        (Overloaded(remote=True), True, True),
        (DeadlineExceeded(executed="no"), True, True),
        (DeadlineExceeded(), True, False),  # it may have been executed
        (OutcomeUnknown(), True, False),
        (Unavailable(executed="maybe"), True, False),
        (NotFound(), False, False),  # an answer
        (Refused("no"), False, False),
        (InternalError(remote=True), False, False),
        (Refused("closed", code="unavailable"), True, False),  # said by a handler: executed
    ],
    ids=lambda value: f"{type(value).__name__}-{value.executed}" if isinstance(value, HoldfastError) else str(value),
)
def test_it_stands_for_an_answer_that_could_not_be_had(error: HoldfastError, idempotent: bool, plain: bool) -> None:
    fallback = Fallback(value=0)
    assert fallback.applies(error, idempotent=True) is idempotent
    assert fallback.applies(error, idempotent=False) is plain


def test_the_codes_can_be_others() -> None:
    fallback = Fallback(value=0, on=("not_found",))
    assert fallback.applies(NotFound(), idempotent=False)
    assert not fallback.applies(Unavailable(), idempotent=True)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (7, Fallback(value=7)),
        (None, Fallback(value=None)),
        (str, Fallback(make=str)),
        (Fallback(value=str), Fallback(value=str)),
    ],
)
def test_it_is_written_as_a_value_a_function_or_itself(given: Any, expected: Fallback) -> None:
    assert as_fallback(given) == expected


def test_a_value_is_given_as_it_is_and_a_function_sees_the_error() -> None:
    value = {"price": 9.9}
    assert Fallback(value=value).instead(Unavailable()) is value
    assert Fallback(make=str).instead(Unavailable("down")) == "down"


@pytest.mark.parametrize(("field", "value"), [("on", ("unavailabel",)), ("on", ()), ("make", 7)])
def test_what_cannot_work_is_refused_by_name(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"{field}="):
        Fallback(**{field: value})


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="mode='on' must be one of off, shadow, enforce"):
        FallbackConfig(mode="on")  # type: ignore[arg-type]


TRACE: list[tuple[str, HoldfastError, bool, Any]] = [
    ("shop.price", Unavailable(), True, 9.9),
    ("shop.price", NotFound(), True, None),
    ("shop.place", Unavailable(), False, None),
    ("shop.stock", Overloaded(), False, "resource_exhausted"),
    ("shop.stock", OutcomeUnknown(), False, None),
    ("shop.price", DeadlineExceeded(), True, 9.9),
]


def make(mode: Mode, emit: Any = lambda fact: None) -> Fallbacks:
    return Fallbacks(FallbackConfig(mode=mode, values={"shop.price": 9.9, "shop.stock": lambda error: error.code}), emit)


def test_who_is_given_what_and_it_is_told() -> None:
    facts: list[Fact] = []
    fallbacks = make("enforce", facts.append)
    for method, error, idempotent, expected in TRACE:
        found = fallbacks.choose(method, error, idempotent=idempotent)
        assert (None if found is None else found.instead(error)) == expected
    assert facts == [
        FallbackUsed("shop.price", "unavailable"),
        FallbackUsed("shop.stock", "resource_exhausted"),
        FallbackUsed("shop.price", "deadline_exceeded"),
    ]
    assert (fallbacks.used, fallbacks.would) == (3, 0)


@pytest.mark.parametrize(("mode", "would"), [("shadow", 3), ("off", 0)])
def test_shadow_counts_what_would_have_been_given_and_gives_nothing(mode: Mode, would: int) -> None:
    facts: list[Fact] = []
    fallbacks = make(mode, facts.append)
    assert [fallbacks.choose(method, error, idempotent=idempotent) for method, error, idempotent, _ in TRACE] == [None] * len(TRACE)
    assert (fallbacks.used, fallbacks.would) == (0, would)
    told = [("shop.price", "unavailable"), ("shop.stock", "resource_exhausted"), ("shop.price", "deadline_exceeded")]
    assert facts == [FallbackUsed(method, code, enforced=False) for method, code in told[:would]]


def test_what_was_asked_for_with_the_call_stands_over_the_configured() -> None:
    fallbacks, own = make("enforce"), Fallback(value="mine", on=("not_found",))
    assert fallbacks.choose("shop.price", NotFound(), idempotent=True, own=own) is own
    assert fallbacks.choose("shop.price", Unavailable(), idempotent=True, own=own) is None


# ---------------------------------------------------------------------------------------------------------------- the layer


def request(method: str = "shop.price", **more: Any) -> Request:
    return Request(MethodInfo(method), b"", False, None, 1, **more)


def encoded(value: Any) -> Reply:
    return Reply(str(value).encode())


def failing(error: BaseException) -> Any:
    async def handler(_request: Request) -> Reply:
        raise error

    return handler


async def test_the_layer_answers_with_the_fallback_encoded() -> None:
    send = fallback_layer(make("enforce"), encoded)(failing(Unavailable("down")))
    assert (await send(request())).body == b"9.9"
    assert (await send(request("shop.stock"))).body == b"unavailable"
    with pytest.raises(Unavailable, match="down"):
        await send(request("shop.place"))


async def test_an_answer_an_unknown_outcome_and_a_stream_are_left_alone() -> None:
    async def answers(_request: Request) -> Reply:
        return Reply(b"real")

    layer = fallback_layer(make("enforce"), encoded)
    assert (await layer(answers)(request())).body == b"real"
    lost = layer(failing(OutcomeUnknown("lost")))
    with pytest.raises(OutcomeUnknown):
        await lost(request())
    assert (await lost(request(idempotent=True))).body == b"9.9"
    with pytest.raises(Unavailable):
        await layer(failing(Unavailable()))(request(stream=object()))


async def test_a_function_that_fails_fails_the_call_and_the_first_error_is_told_with_it() -> None:
    fallbacks = Fallbacks(FallbackConfig(values={"shop.price": lambda error: {"some": 1}["nothing"]}))
    with pytest.raises(KeyError) as failed:
        await fallback_layer(fallbacks, encoded)(failing(Unavailable("down")))(request())
    assert isinstance(failed.value.__context__, Unavailable)


def test_nothing_stands_in_for_a_cancel() -> None:
    async def scenario(world: World, cut: Cut[Any]) -> None:
        async def slow(_request: Request) -> Reply:
            await asyncio.sleep(0.1)
            raise Unavailable

        fallbacks = make("enforce")
        reply = await cut(fallback_layer(fallbacks, encoded)(slow)(request()))  # type: ignore[arg-type]
        assert (reply is None) is cut.happened
        assert fallbacks.used == (0 if cut.happened else 1)

    assert cancel_everywhere(scenario) == 1
