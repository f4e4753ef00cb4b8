"""The vocabulary: what claims to be a Link, a Receiver, a Listening or a Network is one, and the defaults are the documented ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from holdfast.net import link

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
