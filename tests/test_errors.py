"""What every error says by itself, and how an instance may narrow it."""

from __future__ import annotations

import dataclasses

import msgspec
import pytest

from holdfast import errors
from holdfast.errors import DeadlineExceeded, HoldfastError, InvalidArgument, Overloaded, Refused, Unavailable


def kinds() -> list[type[HoldfastError]]:
    found, todo = [], [HoldfastError]
    while todo:
        kind = todo.pop()
        found.append(kind)
        todo += kind.__subclasses__()
    return sorted((kind for kind in found if kind.__module__ == errors.__name__), key=lambda kind: kind.__name__)


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_the_facts_of_a_class_agree(kind: type[HoldfastError]) -> None:
    assert kind.code in errors.CODE_NAMES
    assert kind.retry != "safe" or kind.executed == "no", "safe to retry is only what surely did not run"
    error = kind("text")
    assert (str(error), error.message, error.remote, error.retry_after_s) == ("text", "text", False, None)
    assert str(kind()) == kind().code


def test_a_deadline_is_a_timeout() -> None:
    assert issubclass(DeadlineExceeded, TimeoutError)


@pytest.mark.parametrize(
    ("error", "executed", "retry"),
    [
        (DeadlineExceeded(executed="no"), "no", "safe"),
        (DeadlineExceeded(executed="yes"), "yes", "never"),
        (Unavailable(executed="maybe"), "maybe", "if_idempotent"),
        (Overloaded(executed="yes"), "yes", "never"),
        (InvalidArgument(executed="maybe"), "maybe", "never"),
        (Unavailable(executed="no"), "no", "safe"),
    ],
)
def test_what_is_known_of_execution_decides_about_retry(error: HoldfastError, executed: str, retry: str) -> None:
    assert (error.executed, error.retry) == (executed, retry)
    assert (type(error)().executed, type(error)().retry) == (type(error).executed, type(error).retry), "the class is as it was"


class Short(msgspec.Struct):
    need: int


@dataclasses.dataclass
class Plain:
    need: int


def test_a_refusal_gives_its_details_typed() -> None:
    assert Refused("no", details={"need": 2}).details_as(Short) == Short(2)
    assert Refused("no", details={"need": 2}).details_as(Plain) == Plain(2)
    here = Short(3)
    assert Refused("no", details=here).details_as(Short) is here


def test_details_that_do_not_fit_are_named() -> None:
    with pytest.raises(InvalidArgument, match="not a Short.*need"):
        Refused("no", details={"need": "two"}).details_as(Short)


def test_a_refusal_takes_the_sixteen_codes_only() -> None:
    assert Refused("no", code="aborted").code == "aborted"
    with pytest.raises(ValueError, match="'nonsense' is not one of"):
        Refused("no", code="nonsense")  # type: ignore[arg-type]
