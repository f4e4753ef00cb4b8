"""The kernel's side: what it refuses, in which words, and that no socket is lost whatever is cancelled when."""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Coroutine, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast.control.wheel import Wheel
from holdfast.errors import ConfigError, Unavailable
from holdfast.facts import discard
from holdfast.net.address import parse_address
from holdfast.net.link import ListenOptions
from holdfast.net.network import KernelNetwork, reason_of, unsent_bytes
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


@pytest.mark.both_loops
async def test_a_name_is_looked_up_and_its_addresses_tried_in_turn() -> None:
    async with place("tcp4") as here:  # where localhost is ::1 as well, that one is refused first
        await here.listen()
        receiver = Recorder()
        link = await here.network.connect(parse_address(f"localhost:{here.address.port}"), lambda: receiver, timeout_s=PATIENCE_S)
        assert link.peer == str(here.address)
        here.connected.append(receiver)


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


class Descriptors:
    """Spawns nothing: tasks are cancelled before their first step."""

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        self.task = asyncio.get_running_loop().create_task(coroutine)
        self.task.cancel()
        return self.task


@pytest.mark.both_loops
async def test_a_connection_whose_task_is_cancelled_at_birth_is_closed() -> None:
    loop = asyncio.get_running_loop()
    descriptors = Descriptors()
    network = KernelNetwork(descriptors.spawn, Wheel(loop.time, loop.call_at))
    listening = await network.listen(parse_address("tcp://127.0.0.1:0"), Recorder, ListenOptions(), discard)
    receiver = Recorder()
    await network.connect(listening.address, lambda: receiver, timeout_s=PATIENCE_S)
    await receiver.until(lambda: receiver.lost)
    listening.close()


@pytest.mark.both_loops
@pytest.mark.parametrize("nodelay", [True, False])
async def test_small_writes_leave_at_once_unless_asked_otherwise(nodelay: bool) -> None:
    async with place("tcp4") as here:
        here.make = Echo
        await here.listen(ListenOptions(nodelay=nodelay))
        client, server = await here.pair()
        client.link.write(b"x")
        await client.until(lambda: client.data == b"x")
        transport = server.link._transport  # type: ignore[attr-defined]
        option = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert bool(option) is nodelay


def test_the_kernel_says_what_it_still_holds() -> None:
    one, other = socket.socketpair()
    with closing(one), closing(other):
        one.send(b"x" * 1000)
        if sys.platform == "linux":
            assert unsent_bytes(one) >= 1000
            other.recv(2000)
        assert unsent_bytes(one) == 0
    assert unsent_bytes(one) == 0


def test_reasons_read_alike_whoever_raises_them() -> None:
    refused = [OSError(errno.ECONNREFUSED, text) for text in ("Connect call failed ('127.0.0.1', 1)", "Connection refused")]
    assert {reason_of(error) for error in refused} == {"Connection refused"}
    assert reason_of(OSError("Multiple exceptions: a, b")) == "Multiple exceptions: a, b"
    assert reason_of(OSError()) == "OSError"


SHORTAGE = """
import asyncio, resource, socket, sys
sys.path.insert(0, ".")
from holdfast.facts import ConnectionRefused
from tests.net.helpers import Echo, place

async def main():
    async with place("tcp4") as here:
        here.make = Echo
        await here.listen()
        first, _ = await here.pair()
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        peers = [socket.socket() for _ in range(4)]
        resource.setrlimit(resource.RLIMIT_NOFILE, (peers[-1].fileno() + 1, hard))
        for peer in peers:
            peer.setblocking(False)
            peer.connect_ex((here.address.host, here.address.port))
        while not here.facts:
            await asyncio.sleep(0)
        first.link.write(b"still served")
        await first.until(lambda: first.data == b"still served")
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        while len(here.accepted) < 5 or any(r.made_link is None for r in here.accepted):
            await asyncio.sleep(0)
        for peer in peers:
            peer.close()
        print(len(here.accepted), len(here.facts), here.facts[0].reason)

asyncio.run(main())
"""


def test_out_of_descriptors_serves_whom_it_has_and_takes_the_rest_later() -> None:
    run = subprocess.run([sys.executable, "-c", SHORTAGE], capture_output=True, text=True, timeout=30, env=dict(os.environ), check=False)
    assert run.returncode == 0, run.stderr
    accepted, facts, reason = run.stdout.split(" ", 2)
    assert (accepted, facts) == ("5", "1")
    assert "Too many open files" in reason
