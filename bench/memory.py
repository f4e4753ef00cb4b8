"""Server memory per connection that does nothing.

    python -m bench.memory serve CERTIFICATE | hold PORT COUNT

The two sides of half-open TLS: a server with so much time for handshakes that those that never end can be counted, and a client that sends
a ClientHello but for its last byte. What may never happen here: a figure taken before the server has accepted every connection.
"""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable

from bench.processes import END_S, ROOT, ServerFailed, descriptors, end, rss_kib

WARM_CONNECTIONS = 50
WAIT_S = 60.0
HANDSHAKE_S = 600.0


def held_kib(pid: int, count: int, hold: Callable[[int], subprocess.Popen[str]]) -> float:
    """Return KiB of a server's memory per connection that a child, which `hold` starts, opens and holds."""
    before, result = 0, 0.0
    for number in (min(WARM_CONNECTIONS, count), count):  # the first few fill caches and pools
        connected = descriptors(pid) + number
        child = hold(number)
        try:
            assert child.stdout is not None
            assert child.stdin is not None
            if child.stdout.readline().strip() != "open":
                raise ServerFailed(f"the client could not open {number} connections")
            give_up_at = time.monotonic() + WAIT_S
            while descriptors(pid) < connected:  # the last ones wait in the backlog
                if time.monotonic() > give_up_at:
                    raise ServerFailed(f"the server has {descriptors(pid)} descriptors, expected {connected}")
                time.sleep(0.01)
            result = (rss_kib(pid) - before) / number
            child.stdin.close()
            child.wait(END_S * 3)
        finally:
            end(child)
        before = rss_kib(pid)
    return result


async def serve(certificate: str) -> None:
    """The service at one `tls://` address. Cancel: stops it."""
    import holdfast

    sys.path.insert(0, str(ROOT / "bench"))
    from echo_service import svc

    tls = holdfast.TlsConfig(certificate=certificate, handshake_timeout_s=HANDSHAKE_S)
    async with holdfast.serve(svc, bind="tls://127.0.0.1:0", tls=tls) as server:
        print(json.dumps({"port": int(server.addresses[0].rpartition(":")[2])}), flush=True)
        await asyncio.get_running_loop().create_future()


def hold(port: int, count: int) -> None:
    """Open connections that send a ClientHello but for its last byte, and hold them until stdin closes."""
    outgoing = ssl.MemoryBIO()
    hello = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    try:
        hello.do_handshake()
    except ssl.SSLWantReadError:
        pass  # that is what we are after: the hello is in `outgoing`
    data = outgoing.read()[:-1]
    held = []
    for _ in range(count):
        held.append(socket.create_connection(("127.0.0.1", port)))
        held[-1].send(data)
    print("open", flush=True)
    sys.stdin.read()


def main() -> None:
    """Be the side that is named."""
    if sys.argv[1] == "serve":
        import uvloop

        uvloop.run(serve(sys.argv[2]))
    else:
        hold(int(sys.argv[2]), int(sys.argv[3]))


if __name__ == "__main__":
    main()
