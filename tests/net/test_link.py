"""The vocabulary: what claims to be a Link, a Receiver, a Listening or a Network is one, and the defaults are the documented ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import pytest

from holdfast.net import link
from holdfast.net.link import ListenOptions

if TYPE_CHECKING:  # checked by mypy --strict; there is nothing to run
    from holdfast.net.listener import Acceptor
    from holdfast.net.memory import MemoryLink, MemoryListening, MemoryNetwork
    from holdfast.net.network import KernelNetwork
    from holdfast.net.tcp import StreamLink
    from tests.net.helpers import Recorder

    def links(one: StreamLink, other: MemoryLink) -> tuple[link.Link, ...]:
        return one, other

    def networks(one: KernelNetwork, other: MemoryNetwork) -> tuple[link.Network, ...]:
        return one, other

    def listenings(one: Acceptor, other: MemoryListening) -> tuple[link.Listening, ...]:
        return one, other

    def receiver(one: Recorder) -> link.Receiver:
        return one


def test_the_defaults_are_the_documented_ones() -> None:
    assert (link.SEND_STALL_S, link.HIGH_WATER_BYTES, link.LOW_WATER_BYTES) == (10.0, 256 * 1024, 64 * 1024)
    assert ListenOptions() == ListenOptions(backlog=1024, accepts_per_turn=64, unix_mode=0o600, nodelay=True)


def test_options_are_a_value() -> None:
    options = ListenOptions()
    with pytest.raises(AttributeError):
        options.backlog = 1  # type: ignore[misc]
    assert msgspec.structs.replace(options, backlog=7).backlog == 7


def test_network_py_gives_the_vocabulary_on() -> None:
    from holdfast.net import network

    assert network.Link is link.Link
    assert network.Receiver is link.Receiver
