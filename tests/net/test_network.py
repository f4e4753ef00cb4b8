"""The kernel's side: what it refuses, in which words, and that no socket is lost whatever is cancelled when."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import stat
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, cast

import pytest

from holdfast.errors import ConfigError, Unavailable
from holdfast.facts import discard
from holdfast.net.address import parse_address
from holdfast.net.options import ConnectOptions, ListenOptions
from holdfast.net.resolver import Resolver
from holdfast.net.sockets import Target, numeric, read_options
from tests.faults.helpers import cancel_everywhere
from tests.net.helpers import PATIENCE_S, Echo, Recorder, open_sockets, place, turns_until


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: a socket's path has at most 103 bytes."""
    made = tempfile.mkdtemp(prefix="hf-")
    yield Path(made)
    shutil.rmtree(made)


@pytest.fixture
def full_listener() -> Iterator[str]:
    """An address where a connection neither succeeds nor fails: its backlog is full and nobody accepts."""
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        waiting = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            waiting.append(filler)
        yield f"tcp://127.0.0.1:{listener.getsockname()[1]}"
        for filler in waiting:
            filler.close()


# -------------------------------------------------------------------------------------------------------------------- connect


@pytest.mark.both_loops
async def test_a_connect_that_takes_too_long_says_so_and_leaks_nothing(full_listener: str) -> None:
    async with place("tcp4") as here:
        before = open_sockets()
        with pytest.raises(Unavailable, match=r"no answer within 0\.05 s") as caught:
            await here.network.connect(parse_address(full_listener), Recorder, timeout_s=0.05)
        assert full_listener in str(caught.value)
        await asyncio.sleep(0)
        assert open_sockets() == before


@pytest.mark.both_loops
@pytest.mark.parametrize("turns", range(8))
async def test_a_connect_that_is_cancelled_leaks_nothing(turns: int) -> None:
    async with place("tcp4") as here:
        await here.listen()
        receiver = Recorder()
        before = open_sockets()
        connecting = asyncio.create_task(_connect(here.network, str(here.address), receiver))
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        if connecting.cancelled():
            if receiver.made_link is not None:
                await receiver.until(lambda: receiver.lost)
        else:
            connecting.result()
            receiver.link.abort()
            await receiver.until(lambda: receiver.lost)
        await turns_until(lambda: all(server.lost for server in here.accepted) and open_sockets() <= before)
        assert receiver.calls in ([], ["link_made", "link_lost"])


async def _connect(network: Any, address: str, receiver: Recorder) -> None:
    await network.connect(parse_address(address), lambda: receiver, timeout_s=PATIENCE_S)


@pytest.mark.both_loops
async def test_a_connect_that_hangs_and_is_cancelled_leaks_nothing(full_listener: str) -> None:
    async with place("tcp4") as here:
        before = open_sockets()
        connecting = asyncio.create_task(_connect(here.network, full_listener, Recorder()))
        await turns_until(lambda: open_sockets() > before)
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await asyncio.sleep(0)
        assert connecting.cancelled()
        assert open_sockets() == before


@pytest.mark.both_loops
async def test_a_refused_connect_reads_alike_on_both_loops() -> None:
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can get this port meanwhile
        address = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        async with place("tcp4") as here:
            with pytest.raises(Unavailable) as caught:
                await here.network.connect(parse_address(address), Recorder, timeout_s=PATIENCE_S)
        assert str(caught.value) == f"cannot connect to {address}: Connection refused"


@pytest.mark.both_loops
async def test_a_name_that_does_not_resolve_says_so() -> None:
    async with place("tcp4") as here:
        with pytest.raises(Unavailable, match="the name cannot be resolved"):
            await here.network.connect(parse_address("tcp://nowhere.invalid:7000"), Recorder, timeout_s=PATIENCE_S)


def names(*hosts: str, name: str = "shop.test") -> Resolver:
    """A resolver for which one name stands for these addresses."""

    def look(host: str, port: int, passive: bool) -> list[Target]:
        if host != name:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [target for each in hosts for target in numeric(each, port)]

    return Resolver(look)


@pytest.mark.both_loops
async def test_a_name_is_looked_up_and_its_addresses_tried_in_turn() -> None:
    async with place("tcp4", resolver=names("::1", "127.0.0.1")) as here:  # nobody listens at the first
        await here.listen()
        receiver = Recorder()
        address = parse_address(f"tcp://shop.test:{here.address.port}")
        link = await here.network.connect(address, lambda: receiver, timeout_s=PATIENCE_S)
        assert link.peer == str(here.address)
        here.connected.append(receiver)


async def test_what_a_name_stands_for_can_be_read_back_and_connected_to() -> None:
    def look(host: str, port: int, passive: bool) -> list[Target]:
        return [
            Target(socket.AF_INET, ("192.0.2.7", port)),
            Target(socket.AF_INET6, ("2001:db8::7", port, 0, 0)),
            Target(socket.AF_INET6, ("fe80::7", port, 0, 3)),
        ]

    async with place("tcp4", resolver=Resolver(look)) as here:
        found = await here.network.lookup(parse_address("tcp://shop.test:7000"))
        assert [str(each) for each in found] == ["tcp://192.0.2.7:7000", "tcp://[2001:db8::7]:7000", "tcp://[fe80::7%3]:7000"]
        assert [parse_address(str(each)) for each in found] == found


@pytest.mark.both_loops
async def test_when_no_address_of_a_name_answers_each_is_told() -> None:
    async with place("tcp4", resolver=names("::1", "127.0.0.1")) as here:
        with closing(socket.socket()) as unused:
            unused.bind(("127.0.0.1", 0))
            address = parse_address(f"tcp://shop.test:{unused.getsockname()[1]}")
            with pytest.raises(Unavailable) as caught:
                await here.network.connect(address, Recorder, timeout_s=PATIENCE_S)
        assert str(caught.value) == f"cannot connect to {address}: [::1]: Connection refused; 127.0.0.1: Connection refused"


@pytest.mark.both_loops
async def test_what_failed_is_told_beside_what_never_answered(full_listener: str) -> None:
    async with place("tcp4", resolver=names("::1", "127.0.0.1")) as here:
        address = parse_address(full_listener.replace("127.0.0.1", "shop.test"))
        with pytest.raises(Unavailable) as caught:
            await here.network.connect(address, Recorder, timeout_s=0.05)
        assert str(caught.value) == f"cannot connect to {address}: no answer within 0.05 s; [::1]: Connection refused"


@pytest.mark.both_loops
async def test_a_name_that_takes_too_long_says_so_and_holds_nobody_else() -> None:
    hangs = threading.Event()

    def look(host: str, port: int, passive: bool) -> list[Target]:
        hangs.wait(PATIENCE_S)
        return []

    async with place("tcp4", resolver=Resolver(look), connecting=ConnectOptions(dns_timeout_s=0.02)) as here:
        try:
            await here.listen()
            with pytest.raises(Unavailable, match=r"tcp://shop\.test:7: the name 'shop\.test' was not resolved within 0\.02 s"):
                await here.network.connect(parse_address("tcp://shop.test:7"), Recorder, timeout_s=PATIENCE_S)
            await here.connect()
        finally:
            hangs.set()


@pytest.mark.both_loops
async def test_a_connect_cancelled_anywhere_leaks_nothing() -> None:
    async with place("tcp4", resolver=names("::1", "127.0.0.1")) as here:
        await here.listen()
        before = open_sockets()
        made: list[Recorder] = []

        async def connect() -> None:
            made.append(Recorder())
            link = await here.network.connect(parse_address(f"tcp://shop.test:{here.address.port}"), lambda: made[-1], timeout_s=PATIENCE_S)
            link.abort()

        async def nothing_is_left() -> None:
            await turns_until(lambda: all(server.lost for server in here.accepted) and open_sockets() <= before)
            assert all(receiver.calls in ([], ["link_made", "link_lost"]) for receiver in made)

        assert await cancel_everywhere(connect, nothing_is_left) >= 3  # the name, the race, the link


@pytest.mark.both_loops
async def test_a_missing_socket_file_is_unavailable(folder: Path) -> None:
    async with place("unix") as here:
        with pytest.raises(Unavailable, match=f"unix://{folder}/none: No such file or directory"):
            await here.network.connect(parse_address(f"unix://{folder}/none"), Recorder, timeout_s=PATIENCE_S)


@pytest.mark.parametrize("scheme", ["tls", "udp"])
async def test_schemes_to_come_are_refused_in_one_line(scheme: str) -> None:
    async with place("tcp4") as here:
        address = parse_address(f"{scheme}://127.0.0.1:1")
        for attempt in (
            here.network.connect(address, Recorder, timeout_s=1),
            here.network.listen(address, Recorder, ListenOptions(), discard),
        ):
            with pytest.raises(ConfigError, match=f"^{scheme}:// is not supported yet; use tcp:// or unix://$"):
                await attempt


# --------------------------------------------------------------------------------------------------------------------- listen


async def listen_refusal(address: str) -> str:
    async with place("tcp4") as here:
        before = open_sockets()
        with pytest.raises(ConfigError) as caught:
            await here.network.listen(parse_address(address), Recorder, ListenOptions(), discard)
        assert open_sockets() == before
        assert str(caught.value).startswith(f"cannot listen at {address}: ")
        return str(caught.value)


async def test_a_port_in_use_is_named() -> None:
    with closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port} is in use by another process" in await listen_refusal(f"tcp://127.0.0.1:{port}")


async def test_an_address_of_another_machine_is_refused() -> None:
    assert "no interface of this machine has the address 192.0.2.1" in await listen_refusal("tcp://192.0.2.1:0")
    assert "or IPv6 is turned off" in await listen_refusal("tcp://[2001:db8::1]:0")


async def test_a_machine_without_ipv6_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.socket

    def without_ipv6(family: int = -1, *rest: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *rest)

    async with place("tcp6") as here:
        monkeypatch.setattr(socket, "socket", without_ipv6)
        with pytest.raises(ConfigError, match=r"cannot listen at tcp://\[::1\]:0: this machine has no IPv6"):
            await here.listen()


async def test_a_port_below_1024_needs_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    class Guarded(socket.socket):
        def bind(self, _: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    async with place("tcp4") as here:
        monkeypatch.setattr(socket, "socket", Guarded)
        with pytest.raises(ConfigError, match="choose a port above 1023"):
            await here.listen()


async def test_a_name_to_listen_at_that_does_not_resolve_is_a_config_error() -> None:
    assert "the name cannot be resolved" in await listen_refusal("tcp://nowhere.invalid:0")


@pytest.mark.both_loops
async def test_a_name_is_listened_at_with_all_its_addresses_and_one_port() -> None:
    async with place("tcp4", resolver=names("::1", "127.0.0.1", "127.0.0.1", name="localhost")) as here:
        here.wanted = parse_address("tcp://localhost:0")
        here.make = Echo
        listening = await here.listen()
        port = listening.address.port
        assert listening.address == parse_address(f"tcp://localhost:{port}")
        assert listening.options["bound"] == f"tcp://[::1]:{port} tcp://127.0.0.1:{port}"
        for host in ("127.0.0.1", "[::1]"):
            receiver = Recorder()
            await here.network.connect(parse_address(f"tcp://{host}:{port}"), lambda receiver=receiver: receiver, timeout_s=PATIENCE_S)
            here.connected.append(receiver)
            await turns_until(lambda: len(here.accepted) == len(here.connected) and here.accepted[-1].made_link)
            assert here.accepted[-1].link.local == f"tcp://{host}:{port}"
        before = open_sockets()
        listening.close()
        assert open_sockets() == before - 2


async def test_an_address_of_a_name_that_this_machine_has_not_is_left_out() -> None:
    async with place("tcp4", resolver=names("192.0.2.1", "127.0.0.1")) as here:
        here.wanted = parse_address("tcp://shop.test:0")
        listening = await here.listen()
        assert listening.options["bound"] == f"tcp://127.0.0.1:{listening.address.port}"


async def test_a_name_with_no_address_of_this_machine_is_refused() -> None:
    async with place("tcp4", resolver=names("198.51.100.1", "198.51.100.2")) as here:
        here.wanted = parse_address("tcp://shop.test:0")
        before = open_sockets()
        with pytest.raises(ConfigError, match="no interface of this machine has the address shop.test"):
            await here.listen()
        assert open_sockets() == before


async def test_a_port_the_kernel_chose_that_is_taken_in_the_other_family_is_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    class Unlucky(socket.socket):
        def bind(self, name: Any) -> None:
            if self.family == socket.AF_INET6 and len(taken) < 3:
                taken.append(name[1])
                raise OSError(errno.EADDRINUSE, "Address already in use")
            super().bind(name)

    async with place("tcp4", resolver=names("127.0.0.1", "::1")) as here:
        monkeypatch.setattr(socket, "socket", Unlucky)
        here.wanted = parse_address("tcp://shop.test:0")
        before = open_sockets()
        await here.listen()
        assert len(set(taken)) >= 2
        assert open_sockets() == before + 2


async def test_a_link_through_every_interface_knows_its_own() -> None:
    async with place("tcp4") as here:
        here.wanted = parse_address("tcp://0.0.0.0:0")
        await here.listen()
        receiver = Recorder()
        await here.network.connect(parse_address(f"tcp://127.0.0.1:{here.address.port}"), lambda: receiver, timeout_s=PATIENCE_S)
        here.connected.append(receiver)
        await turns_until(lambda: here.accepted and here.accepted[0].made_link)
        assert here.accepted[0].link.local == f"tcp://127.0.0.1:{here.address.port}"


async def test_ipv6_on_every_interface_leaves_the_ipv4_port_free() -> None:
    async with place("tcp6") as here, place("tcp4") as other:
        here.wanted = parse_address("tcp://[::]:0")
        await here.listen()
        other.wanted = parse_address(f"tcp://0.0.0.0:{here.address.port}")
        assert (await other.listen()).address.port == here.address.port


# ----------------------------------------------------------------------------------------------------------------------- Unix


def mode_of(path: str) -> int | None:
    """The permissions of the socket file at `path`; None where there is none."""
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return None
    return stat.S_IMODE(mode) if stat.S_ISSOCK(mode) else None


async def test_a_socket_file_is_private_and_goes_with_its_listener() -> None:
    async with place("unix") as here:
        listening = await here.listen()
        path = listening.address.path
        assert mode_of(path) == 0o600
        listening.close()
        assert mode_of(path) is None
        await here.listen(ListenOptions(unix_mode=0o666))
        assert mode_of(path) == 0o666, "what is asked for, whatever the umask"


async def test_a_dead_socket_file_is_replaced() -> None:
    async with place("unix") as here:
        with closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(here.wanted.path)
        here.make = Echo
        await here.listen()
        client, _ = await here.pair()
        client.link.write(b"x")
        await client.until(lambda: client.data == b"x")


async def test_a_live_socket_file_is_left_alone() -> None:
    async with place("unix") as here:
        with closing(socket.socket(socket.AF_UNIX)) as live:
            live.bind(here.wanted.path)
            live.listen(0)
            fillers = [socket.socket(socket.AF_UNIX) for _ in range(3)]
            for filler in fillers:  # the second round finds its backlog full, which is no sign of death
                with pytest.raises(ConfigError, match="another process listens there"):
                    await here.listen()
                filler.setblocking(False)
                filler.connect_ex(here.wanted.path)
            for filler in fillers:
                filler.close()
        assert mode_of(here.wanted.path) is not None


DATA = b"somebody's data"


def write_data(path: str) -> None:
    """Put a file where the socket should go."""
    Path(path).write_bytes(DATA)


def read_data(path: str) -> bytes:
    """What is in the file now."""
    return Path(path).read_bytes()


async def test_what_is_no_socket_is_never_removed() -> None:
    async with place("unix") as here:
        write_data(here.wanted.path)
        with pytest.raises(ConfigError, match="not by a socket"):
            await here.listen()
        assert read_data(here.wanted.path) == DATA


async def test_a_link_to_a_file_is_not_followed() -> None:
    async with place("unix") as here:
        os.symlink("/dev/null", here.wanted.path)
        with pytest.raises(ConfigError, match="not by a socket"):
            await here.listen()


async def test_a_folder_that_is_not_there_is_named(folder: Path) -> None:
    assert "No such file or directory" in await listen_refusal(f"unix://{folder}/none/s")


async def test_a_listener_does_not_remove_the_file_of_the_one_after_it() -> None:
    async with place("unix") as here:
        first = await here.listen()
        path = first.address.path
        os.unlink(path)
        with closing(socket.socket(socket.AF_UNIX)) as successor:
            successor.bind(path)
            first.close()
            assert mode_of(path) is not None


# ----------------------------------------------------------------------------------------------------------- accepted connections


def socket_of(link: Any) -> socket.socket:
    """The socket under a link."""
    found = link._transport.get_extra_info("socket")
    return cast("socket.socket", found)


TUNED: dict[str, Any] = {
    "nodelay": False,
    "keepalive_idle_s": 77,
    "keepalive_interval_s": 7,
    "keepalive_count": 5,
    "user_timeout_s": 12.5,
    "send_buffer_bytes": 65_536,
    "receive_buffer_bytes": 131_072,
}


def missing_here(name: str) -> bool:
    return name == "user_timeout_s" and sys.platform != "linux"


def as_asked(read: Mapping[str, object]) -> list[str]:
    """What is not as TUNED asks for; the kernel may give a larger buffer than asked, Linux gives the double."""
    return [
        f"{name}={read[name]!r}"
        for name, asked in TUNED.items()
        if not missing_here(name) and (read[name] < asked if name.endswith("bytes") else read[name] != asked)  # type: ignore[operator]
    ]


@pytest.mark.both_loops
async def test_options_hold_for_what_listens_what_is_accepted_and_what_connects() -> None:
    async with place("tcp4", connecting=ConnectOptions(**TUNED)) as here:
        here.make = Echo
        listening = await here.listen(ListenOptions(**TUNED, backlog=7, connections_max=9))
        client, server = await here.pair()
        client.link.write(b"x")
        await client.until(lambda: client.data == b"x")
        assert as_asked(listening.options) == []
        assert as_asked(read_options(socket_of(server.link))) == []
        assert as_asked(read_options(socket_of(client.link))) == []
        assert listening.options["connections_max"] == 9
        assert listening.options.get("backlog", 7) == 7
        assert listening.options["reuse_port"] is False


@pytest.mark.both_loops
async def test_small_writes_leave_at_once_and_a_silent_peer_is_asked_unless_we_say_otherwise() -> None:
    async with place("tcp4") as here:
        await here.listen()
        client, server = await here.pair()
        for link in (client.link, server.link):
            read = read_options(socket_of(link))
            assert (read["nodelay"], read["keepalive"], read["keepalive_idle_s"]) == (True, True, 30)
    async with place("tcp4", connecting=ConnectOptions(keepalive=False)) as here:
        await here.listen(ListenOptions(keepalive=False))
        client, server = await here.pair()
        for link in (client.link, server.link):
            assert read_options(socket_of(link))["keepalive"] is False


async def test_two_may_listen_at_one_port_if_both_say_so() -> None:
    async with place("tcp4") as here, place("tcp4") as other:
        listening = await here.listen(ListenOptions(reuse_port=True))
        assert listening.options["reuse_port"] is True
        other.wanted = listening.address
        assert (await other.listen(ListenOptions(reuse_port=True))).address == listening.address


async def test_a_unix_socket_has_buffers_and_no_options_of_tcp() -> None:
    async with place("unix") as here:
        listening = await here.listen(ListenOptions(send_buffer_bytes=65_536))
        assert sorted(listening.options) == ["bound", "connections_max", "receive_buffer_bytes", "send_buffer_bytes"]
        assert listening.options["send_buffer_bytes"] >= 65_536  # type: ignore[operator]


# ---------------------------------------------------------------------------------------------------------------- last words

REASON = b"you said too much; goodbye"


class Offended(Recorder):
    """Says why at the first byte, and closes."""

    def bytes_received(self, data: memoryview | bytes) -> int:
        if not self.data:
            super().bytes_received(data)
            self.link.write(REASON)
            self.link.close()
        return len(data)


class Talker(Recorder):
    """Listens only when it has said everything."""

    def say(self, size: int) -> None:
        self.link.pause_reading()
        self.link.write(b"x" * size)

    def resume_writing(self) -> None:
        super().resume_writing()
        self.link.resume_reading()


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", ["tcp4", "unix"])
async def test_a_peer_that_is_still_talking_reads_why_it_was_closed(kind: str) -> None:
    async with place(kind) as here:
        here.make = Offended
        await here.listen()
        client, server = await here.pair(Talker)
        assert isinstance(client, Talker)
        client.say(6 * 1024 * 1024)
        await client.until(lambda: client.lost)
        assert client.data == REASON
        assert client.error is None
        await server.until(lambda: server.lost)
        assert server.error is None


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", ["tcp4", "unix"])
async def test_a_peer_that_never_stops_talking_is_left_after_a_while(kind: str) -> None:
    async with place(kind, linger_s=0.05) as here:
        here.make = Offended
        await here.listen()
        client, server = await here.pair(Talker)
        assert isinstance(client, Talker)
        client.say(64 * 1024 * 1024)
        await server.until(lambda: server.lost)
        assert server.error is None
        await client.until(lambda: client.lost)
        assert client.link.write_buffer_bytes() == 0


@pytest.mark.both_loops
@pytest.mark.parametrize("kind", ["tcp4", "unix"])
async def test_a_link_can_be_cut_while_it_lingers(kind: str) -> None:
    async with place(kind, linger_s=PATIENCE_S) as here:
        await here.listen()
        client, server = await here.pair()
        server.link.pause_reading()
        client.link.close()
        client.link.abort()
        await client.until(lambda: client.lost)
        assert client.error is None
        server.link.resume_reading()
        await server.until(lambda: server.lost)
