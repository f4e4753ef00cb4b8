"""Counting who is there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.net.census import Census, room_for


@given(st.lists(st.sampled_from(["a", "b", b"\x20\x01", None])))
def test_whoever_came_and_left_leaves_nothing_behind(networks: list[str | None]) -> None:
    census = Census()
    for n, network in enumerate(networks):
        census.enter(network)
        assert census.count == n + 1
    for network in ("a", "b"):
        assert census.of(network) == networks.count(network)
    for network in networks:
        census.leave(network)
    assert census.count == 0
    assert census._by_network == {}


@pytest.mark.parametrize(
    ("descriptors", "room"), [(1, 1), (64, 32), (256, 128), (511, 255), (513, 257), (1024, 768), (65_536, 65_280), (2**20, 2**20 - 256)]
)
def test_the_room_leaves_descriptors_for_everything_else(descriptors: int, room: int) -> None:
    assert room_for(descriptors) == room
