"""Subsets: the size that was asked for, this client's own, the same each time, and nearly the same when the set changes."""

from __future__ import annotations

import hashlib
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.balance.endpoint import Endpoint
from holdfast.balance.subset import subset
from holdfast.errors import ConfigError

SEED = b"one client's own"


def endpoints_of(count: int) -> list[Endpoint]:
    return [Endpoint(f"tcp://10.0.{n // 250}.{n % 250}:7000") for n in range(count)]


def by_definition(keys: list[str], size: int, seed: bytes) -> set[str]:
    """Everybody who is lower than all but `size - 1` at most."""

    def rank(key: str) -> int:
        return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=16, key=seed).digest(), "big")

    return {key for key in keys if sum(rank(other) < rank(key) for other in keys) < size}


@pytest.mark.parametrize(("count", "kept"), [(0, 0), (1, 1), (3, 3), (5, 5), (40, 40), (41, 20), (50, 20), (1000, 20)])
def test_all_of_few_and_twenty_of_many(count: int, kept: int) -> None:
    endpoints = endpoints_of(count)
    chosen = subset(endpoints, seed=SEED)
    assert len(chosen) == kept
    assert [each for each in endpoints if each in chosen] == chosen, "in the order they came in"
    assert chosen is not endpoints


@given(st.lists(st.text(max_size=12), max_size=40, unique=True), st.integers(1, 10), st.integers(0, 10), st.binary(min_size=1, max_size=64))
def test_it_is_the_lowest_ranks(keys: list[str], size: int, more: int, seed: bytes) -> None:
    chosen = subset([Endpoint(key) for key in keys], size, size + more, seed=seed)
    expected = by_definition(keys, size, seed) if len(keys) > size + more else set(keys)
    assert {each.key for each in chosen} == expected


@given(st.integers(45, 120), st.integers(0, 10**6))
def test_the_order_of_the_list_changes_nothing(count: int, seed: int) -> None:
    endpoints = endpoints_of(count)
    shuffled = endpoints[:]
    random.Random(seed).shuffle(shuffled)
    assert {each.key for each in subset(endpoints, seed=SEED)} == {each.key for each in subset(shuffled, seed=SEED)}


@given(st.integers(42, 120), st.integers(0, 10**6), st.binary(min_size=1, max_size=16))
def test_one_more_or_one_less_changes_one_place_at_most(count: int, which: int, seed: bytes) -> None:
    endpoints = endpoints_of(count)
    rest = [each for n, each in enumerate(endpoints) if n != which % count]
    before, after = ({each.key for each in subset(some, seed=seed)} for some in (endpoints, rest))
    gone = endpoints[which % count].key
    assert before - after == ({gone} if gone in before else set())
    assert len(after - before) == (1 if gone in before else 0)


def test_clients_use_different_ones_and_all_are_used() -> None:
    endpoints = endpoints_of(100)
    used = Counter(each.key for client in range(200) for each in subset(endpoints, seed=f"client {client}".encode()))
    assert len(used) == 100
    assert max(used.values()) < 70, "40 on average"
    assert min(used.values()) > 15


def test_weights_and_labels_are_kept_and_say_nothing() -> None:
    plain = endpoints_of(50)
    rich = [Endpoint(each.key, weight=9.0, labels={"zone": "b"}) for each in plain]
    chosen = subset(rich, seed=SEED)
    assert [each.key for each in chosen] == [each.key for each in subset(plain, seed=SEED)]
    assert all(each in rich for each in chosen)


@pytest.mark.parametrize(
    ("size", "above", "seed", "message"),
    [
        (0, 40, SEED, "size=0: expected at least 1"),
        (20, 19, SEED, "above=19: expected at least the size of the subset, 20"),
        (20, 40, b"", "seed of 0 bytes: expected 1 to 64"),
        (20, 40, b"x" * 65, "seed of 65 bytes"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(size: int, above: int, seed: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        subset(endpoints_of(50), size, above, seed=seed)
