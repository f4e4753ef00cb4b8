"""The table at the top of errors.py is what the classes say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import pytest

from holdfast import errors

TABLE = {line.strip(" │├└─").split()[0]: tuple(line.split()[-4:]) for line in (errors.__doc__ or "").splitlines() if "──" in line}


def leaves(of: type[errors.HoldfastError] = errors.HoldfastError) -> Iterator[type[errors.HoldfastError]]:
    for child in of.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from leaves(child)


@pytest.mark.parametrize("error", list(leaves()), ids=lambda error: error.__name__)
def test_each_error_class_has_its_four_facts_and_the_table_agrees(error: type[errors.HoldfastError]) -> None:
    assert error.code in errors.CODE_NAMES
    assert error.fault in get_args(errors.Fault)
    assert error.executed in get_args(errors.Executed)
    assert error.retry in get_args(errors.Retry)
    code, *facts = TABLE[error.__name__]
    assert code in (error.code, "(given)")
    assert facts == [error.fault, error.executed, error.retry]
    assert (error.retry == "safe") <= (error.executed == "no"), "safe to retry only what was surely not executed"


def test_the_table_names_no_class_that_is_not_there() -> None:
    assert sorted(TABLE) == sorted(error.__name__ for error in leaves())
