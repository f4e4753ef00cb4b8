"""Where nodes come from as a user writes it: lists, names, files; what is refused, TLS for what becomes known later, and changes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import holdfast
from holdfast.balance.members import MembersConfig
from holdfast.balance.resolve import DnsResolver, FileResolver, ResolveConfig, StaticResolver
from holdfast.calling.sources import Source
from holdfast.clock import Streams
from holdfast.errors import ConfigError, HoldfastError
from holdfast.facts import Emit, NodesChanged, ResolveFailed, discard
from holdfast.net.address import Address
from holdfast.net.link import Network
from holdfast.net.trust import TlsConfig
from tests.calling.test_nodes import AB, exactly, spawn
from tests.calling.town import Net, told, town

AT_ONCE = MembersConfig(removal_window_s=0.0)


class Given:
    """What a source needs of a core."""

    def __init__(self) -> None:
        self.network: Network = Net()  # type: ignore[assignment]
        self.rng = Streams(1)
        self.emit: Emit = discard


def source(text: str, *, insecure: bool = False, tls: TlsConfig | None = None) -> Source:
    return Source(text, tls, insecure=insecure, resolve=ResolveConfig())


@exactly
async def test_the_three_forms() -> None:
    few = source(" tcp://127.0.0.1:7000,unix:///run/shop.sock ").resolver(Given())
    assert isinstance(few, StaticResolver)
    assert [endpoint.key for endpoint in few.initial()] == ["tcp://127.0.0.1:7000", "unix:///run/shop.sock"]
    name = source("dns+tcp://localhost:7000", insecure=True).resolver(Given())
    assert isinstance(name, DnsResolver)
    assert name.source == "tcp://localhost:7000"
    for text in ("file:///etc/shop.nodes", "file:/etc/shop.nodes"):
        file = source(text).resolver(Given())
        assert isinstance(file, FileResolver)
        assert file.source == "/etc/shop.nodes"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "address"),
        ("tcp://127.0.0.1", "port"),
        ("tcp://127.0.0.1:7000,", "address"),
        ("file:shop.nodes", "expected file:///PATH"),
        ("file://shop.nodes", "expected file:///PATH"),
        ("dns+unix:///run/shop.sock", "only tcp:// and tls://"),
        ("dns+memory://a", "only tcp:// and tls://"),
        ("dns+", "address"),
        ("memory://a,memory://a", "given twice"),
        ("tcp://shop.example.com:7000", "insecure"),
        ("dns+tcp://shop.example.com:7000", "insecure"),
        ("tcp://127.0.0.1:7000,tcp://shop.example.com:7000", "insecure"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        source(text)


def test_a_name_is_what_its_nodes_must_prove_to_be_unless_another_is_given() -> None:
    assert source("dns+tls://shop.internal:7000").tls == TlsConfig(server_name="shop.internal")
    given = source("dns+tls://shop.internal:7000", tls=TlsConfig(trust="ca.pem")).tls
    assert given is not None
    assert (given.trust, given.server_name) == ("ca.pem", "shop.internal")
    named = TlsConfig(server_name="other.internal")
    assert source("dns+tls://shop.internal:7000", tls=named).tls == named


@pytest.mark.parametrize(
    ("text", "expected"),
    [("tcp://127.0.0.1:7000", False), ("tls://shop.internal:7000", True), ("dns+tls://shop.internal:7000", True), ("file:///x", True)],
)
def test_it_knows_whether_a_node_may_use_tls(text: str, expected: bool) -> None:
    assert source(text).may_use_tls is expected


# -------------------------------------------------------------------------------------------------------------------- files


def poll(seconds: float = 1.0, *, members: MembersConfig = AT_ONCE) -> holdfast.ClientConfig:
    return holdfast.ClientConfig(resolve=ResolveConfig(file_poll_s=seconds), members=members)


def write(path: Path, text: str) -> None:
    path.write_text(text, "utf-8")


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def nodes_file(tmp_path: Path) -> Path:
    return tmp_path / "shop.nodes"


def test_a_file_is_followed_and_one_bad_line_leaves_all_as_it_is(nodes_file: Path) -> None:
    write(nodes_file, f"# ours\n{AB[0]}\n")

    @exactly
    async def main() -> None:
        async with town(AB, address=f"file://{nodes_file}", config=poll(), connected=False) as here:
            assert await here.client.call("shop.get", returns=str) == "get at memory://a"
            write(nodes_file, f"{AB[0]}\n{AB[1]} weight=0\n")
            await here.until(2.5)
            (failed,) = here.seen(ResolveFailed)
            assert "line 2" in failed.reason
            assert [node.address for node in here.client.nodes] == [AB[0]]
            write(nodes_file, f"{AB[0]}\n{AB[1]} weight=2 zone=b\n")
            await here.until(5.0)
            assert [(node.address, node.state) for node in here.client.nodes] == [(AB[0], "ready"), (AB[1], "ready")]
            assert here.node(AB[1]).weight == 2.0
            write(nodes_file, f"{AB[1]}\n")
            await here.until(8.0)
            assert await here.client.call("shop.get", returns=str) == "get at memory://b"
            write(nodes_file, "# nobody\n")
            await here.until(11.0)
            remove(nodes_file)
            await here.until(14.0)
            assert [node.address for node in here.client.nodes] == [AB[1]], "an empty set, or none, never takes the place of a good one"
            assert len(here.seen(ResolveFailed)) == 3

    main()


def test_nodes_that_a_file_takes_away_finish_what_they_have(nodes_file: Path) -> None:
    write(nodes_file, "\n".join(AB))

    @exactly
    async def main() -> None:
        async with town(AB, address=f"file://{nodes_file}", config=poll(), connected=False) as here:
            await here.until(0.1)
            here.took_s = dict.fromkeys(AB, 5.0)
            calls = [await spawn(here.client.call("shop.put", returns=str)) for _ in range(6)]
            write(nodes_file, AB[1])
            await here.until(3.0)
            assert [node.address for node in here.client.nodes] == [AB[1]]
            assert {await call for call in calls} == {"put at memory://a", "put at memory://b"}
            assert here.seen(NodesChanged)[-1] == NodesChanged(1, 0, 1, 0)
            await here.until(here.now() + 0.5)
            here.nothing_is_held()

    main()


def test_a_file_that_is_not_there_yet_is_waited_for(nodes_file: Path) -> None:
    @exactly
    async def main() -> None:
        async with town(AB, address=f"file://{nodes_file}", config=poll(), connected=False) as here:
            await here.until(0.1)
            error = await told(here.client.call("shop.get"))
            assert "no node is known yet" in str(error)
            assert "No such file" in str(error)
            waiting = await spawn(here.client.using(wait_for_ready=True).call("shop.get", returns=str))
            write(nodes_file, AB[1])
            assert await waiting == "get at memory://b"

    main()


def test_a_node_of_a_file_beyond_this_machine_needs_tls_too(nodes_file: Path) -> None:
    write(nodes_file, "tcp://shop.example.com:7000")

    @exactly
    async def main() -> None:
        async with town(AB, address=f"file://{nodes_file}", config=poll(), connected=False) as here:
            await here.until(0.1)
            (failed,) = here.seen(ResolveFailed)
            assert "insecure" in failed.reason
            assert here.client.nodes == []

    main()


# -------------------------------------------------------------------------------------------------------------------- names


def name_config(**more: float) -> holdfast.ClientConfig:
    return holdfast.ClientConfig(resolve=ResolveConfig(refresh_s=10.0, jitter=0.0, **more), members=AT_ONCE)


@exactly
async def test_a_name_is_looked_up_again_and_its_nodes_come_and_go() -> None:
    async with town(AB, address="dns+tcp://127.0.0.1:7000", config=name_config(), connected=False) as here:
        here.net.names = ["a"]
        assert await here.client.using(wait_for_ready=True).call("shop.get", returns=str) == "get at memory://a"
        here.net.names = ["b"]
        await here.until(12.0)
        assert [node.address for node in here.client.nodes] == [AB[1]]
        assert await here.client.call("shop.get", returns=str) == "get at memory://b"
        here.net.names = []
        await here.until(30.0)
        assert [node.address for node in here.client.nodes] == [AB[1]]
        assert here.seen(ResolveFailed)


@exactly
async def test_a_node_that_a_name_of_this_machine_stands_for_elsewhere_needs_tls_too() -> None:
    async with town(AB, address="dns+tcp://localhost:7000", config=name_config(), connected=False) as here:

        async def lookup(_address: Address) -> list[Address]:
            return [Address("tcp", "192.0.2.7", 7000)]

        here.net.lookup = lookup  # type: ignore[method-assign]
        await here.until(0.1)
        (failed,) = here.seen(ResolveFailed)
        assert "insecure" in failed.reason
        assert here.client.nodes == []
        assert here.net.connects == []


@exactly
async def test_a_node_that_is_lost_has_the_name_looked_up_at_once() -> None:
    async with town(AB, address="dns+tcp://127.0.0.1:7000", config=name_config(), connected=False) as here:
        here.net.names = ["a"]
        await here.client.using(wait_for_ready=True).call("shop.get")
        here.net.names = ["b"]
        here.down(AB[0])
        await here.until(here.now() + 0.5)
        assert await here.client.call("shop.get", returns=str) == "get at memory://b"
        assert here.now() < 2.0


@exactly
async def test_a_poke_looks_the_name_up() -> None:
    async with town(AB, address="dns+tcp://127.0.0.1:7000", config=name_config(), connected=False) as here:
        here.net.names = ["a"]
        await here.client.using(wait_for_ready=True).call("shop.get")
        here.net.names = ["a", "b"]
        here.client.poke()
        await here.until(here.now() + 0.1)
        assert [node.address for node in here.client.nodes] == list(AB)


@exactly
async def test_a_lookup_under_way_ends_with_the_client() -> None:
    async with town(AB, address="dns+tcp://127.0.0.1:7000", config=name_config(), connected=False) as here:
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def lookup(_address: object) -> list[object]:
            await never
            return []

        here.net.lookup = lookup  # type: ignore[method-assign, assignment]
        waiting = await spawn(here.client.call("shop.get", deadline=None))
        await here.until(1.0)
        await here.client.close()
        assert isinstance(await waiting, HoldfastError)
        assert len(here.core.scope) == 0
