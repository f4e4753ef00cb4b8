"""The libraries that are measured: one file each, and a row here.

A file has `serve()`, which prints `{"port": N}` once it listens (see `says`) and goes on until a signal, and `connect(where, in_flight)`,
which gives a link with `echo(a, s)`, whose reply has `.a` and `.s`, and `close()`. What may be different is the `style`:

    tasks      `connect`, `echo` and `close` are awaited; one link carries all calls in flight
    threads    everything blocks; one link and one thread per call in flight: `connect(where)`; `claim()` is called first in that thread
    pipeline   one link without a loop: `begin(a, s, done)` sends, `pump()` waits for something to come back

holdfast and the yardstick have more: `bulk`, `items` and `suspend` of a link, and `dial(where)`, a link for one call.

Each is written the way that library's own documentation recommends for speed. Only the rows are read before a library is known to be
installed. What may never happen here: a peer that is slow because we used it badly; its note says how it is used.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import pathlib
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
PROGRAMS = ROOT / ".cache"
"""Where `make bench` unpacks programs that are not Python packages."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A row: what it needs, and how it is used."""

    name: str
    module: str
    packages: tuple[str, ...]
    """Distributions that must be installed; the version quoted is the first one's."""
    note: str
    note_zh: str
    style: str = "tasks"
    uvloop: bool = True
    program: str = ""
    """An executable that must be there too."""
    beside: bool = False
    """Shown, but no RPC: it need not be beaten."""

    def loop_factory(self) -> Callable[[], asyncio.AbstractEventLoop]:
        """Return what makes the loop it runs on."""
        if not self.uvloop:
            return asyncio.new_event_loop
        import uvloop

        return uvloop.new_event_loop

    def program_path(self) -> str | None:
        """Return where its executable is: on PATH, or unpacked by `make bench`."""
        unpacked = PROGRAMS / self.program / "usr" / "sbin" / self.program
        return str(unpacked) if unpacked.exists() else shutil.which(self.program)


def says(port: int) -> None:
    """Say where we listen."""
    print(json.dumps({"port": port}), flush=True)


OURS = "holdfast"
YARDSTICK = "bare_rpc"

_HTTP = "HTTP/1.1, a connection per call in flight, aiohttp's client, JSON by msgspec, uvloop"
_HTTP_ZH = "HTTP/1.1，每个并发调用一个连接，aiohttp 客户端，msgspec 的 JSON，uvloop"

PEERS = {
    peer.name: peer
    for peer in (
        Peer(
            name=OURS,
            module="bench.peers.ours",
            packages=("holdfast",),
            note="`holdfast serve` with its defaults, `client.bind`, one connection, uvloop",
            note_zh="默认设置的 `holdfast serve`，`client.bind`，一个连接，uvloop",
        ),
        Peer(
            name=YARDSTICK,
            module="bench.peers.bare",
            packages=("msgspec", "uvloop"),
            note="the least RPC there can be: no reliability at all, one connection, msgpack by msgspec, uvloop",
            note_zh="最小的 RPC：没有任何可靠性功能，一个连接，msgspec 的 msgpack，uvloop",
        ),
        Peer(
            name="grpc.aio",
            module="bench.peers.grpc_aio",
            packages=("grpcio", "protobuf"),
            note="one channel, protobuf, uvloop",
            note_zh="一个 channel，protobuf，uvloop",
        ),
        Peer(name="aiohttp", module="bench.peers.aiohttp_web", packages=("aiohttp",), note=_HTTP, note_zh=_HTTP_ZH),
        Peer(
            name="uvicorn+Starlette",
            module="bench.peers.uvicorn_starlette",
            packages=("uvicorn", "starlette", "httptools", "aiohttp"),
            note=f"httptools; {_HTTP}",
            note_zh=f"httptools；{_HTTP_ZH}",
        ),
        Peer(
            name="granian",
            module="bench.peers.granian_rsgi",
            packages=("granian", "aiohttp"),
            note=f"RSGI, one worker; {_HTTP}",
            note_zh=f"RSGI，一个工作进程；{_HTTP_ZH}",
        ),
        Peer(
            name="pyzmq",
            module="bench.peers.pyzmq",
            packages=("pyzmq",),
            note="DEALER and ROUTER, zmq.asyncio, msgpack by msgspec, uvloop",
            note_zh="DEALER 和 ROUTER，zmq.asyncio，msgspec 的 msgpack，uvloop",
        ),
        Peer(
            name="Twisted AMP",
            module="bench.peers.amp",
            packages=("Twisted",),
            note="one connection, asyncioreactor on uvloop",
            note_zh="一个连接，asyncioreactor，uvloop",
        ),
        Peer(
            name="thriftpy2",
            module="bench.peers.thrift",
            packages=("thriftpy2",),
            note="threaded server, a thread and a connection per call in flight, its compiled binary protocol",
            note_zh="多线程服务器，每个并发调用一个线程和一个连接，它的编译版二进制协议",
            style="threads",
        ),
        Peer(
            name="rpyc",
            module="bench.peers.rpyc_async",
            packages=("rpyc",),
            note="threaded server, one connection, `rpyc.async_`",
            note_zh="多线程服务器，一个连接，`rpyc.async_`",
            style="pipeline",
        ),
        Peer(
            name="Pyro5",
            module="bench.peers.pyro",
            packages=("Pyro5",),
            note="threaded daemon, a thread and a proxy per call in flight, marshal",
            note_zh="多线程 daemon，每个并发调用一个线程和一个 proxy，marshal",
            style="threads",
        ),
        Peer(
            name="nats",
            module="bench.peers.nats_broker",
            packages=("nats-py",),
            note="request and reply through nats-server (on both cores, its CPU counted as the server's), msgpack by msgspec, uvloop",
            note_zh="经过 nats-server 的请求与应答（它可用两个核，CPU 算在服务器一侧），msgspec 的 msgpack，uvloop",
            program="nats-server",
        ),
        Peer(
            name="websockets",
            module="bench.peers.websockets_asyncio",
            packages=("websockets",),
            note="one connection, no compression, replies matched by number, msgpack by msgspec, uvloop",
            note_zh="一个连接，不压缩，按编号匹配应答，msgspec 的 msgpack，uvloop",
        ),
        Peer(
            name="picows",
            module="bench.peers.picows_bare",
            packages=("picows",),
            note="a bare WebSocket in Cython, no RPC: shown beside; replies matched by number, msgpack by msgspec, uvloop",
            note_zh="Cython 写的裸 WebSocket，不是 RPC：仅作对照；按编号匹配应答，msgspec 的 msgpack，uvloop",
            beside=True,
        ),
    )
}


def missing(peer: Peer) -> str | None:
    """Return why a peer cannot run here, or None."""
    for package in peer.packages:
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return f"the package {package} is not installed"
    if peer.program and peer.program_path() is None:
        return f"the program {peer.program} is neither on PATH nor unpacked in .cache/"
    return None


def version(peer: Peer) -> str:
    """Return the version that is measured, and those of what it is used with."""
    first, *others = (importlib.metadata.version(package) for package in peer.packages)
    beside = [f"{name} {each}" for name, each in zip(peer.packages[1:], others, strict=True)]
    if peer.program:
        said = subprocess.run([str(peer.program_path()), "--version"], capture_output=True, text=True, check=False)
        beside.append(said.stdout.strip().replace(":", ""))
    return f"{first} ({', '.join(beside)})" if beside else first
