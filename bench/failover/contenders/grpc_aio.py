"""grpc.aio: its nodes and its caller. Messages are eight bytes, so that no codec is measured."""

from __future__ import annotations

import asyncio
import json
import signal
import struct
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
import grpc.aio

from bench.failover.contenders import DEADLINE_S, DRAIN_S, Link, Outcome
from bench.failover.work import TICK_S, from_environment

NUMBER = struct.Struct("!q")
KEEPALIVE_MS = 1000

SERVER_OPTIONS = [
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
    ("grpc.http2.max_ping_strikes", 0),
]
CHANNEL_OPTIONS = [
    ("grpc.lb_policy_name", "round_robin"),
    ("grpc.enable_retries", 1),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
    ("grpc.http2.ping_timeout_ms", KEEPALIVE_MS),  # without it a ping for flow control, which may wait 60 s, keeps keepalive from asking
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
SERVICE_CONFIG = {
    "loadBalancingConfig": [{"round_robin": {}}],
    "methodConfig": [
        {
            "name": [{"service": "failover.Node", "method": "Look"}],
            "retryPolicy": {
                "maxAttempts": 3,
                "initialBackoff": "0.025s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ],
}


def pack(number: int) -> bytes:
    """Return the message."""
    return NUMBER.pack(number)


def unpack(data: bytes) -> int:
    """Return the number in a message."""
    return int(NUMBER.unpack(data)[0])


# -------------------------------------------------------------------------------------------------------------------- a node


async def serve() -> None:
    """Serve until SIGTERM, then finish what is open. Cancel: stops it."""
    work = from_environment()

    async def execute(call_id: int, _context: Any) -> int:
        await asyncio.sleep(work.begin(call_id))
        return call_id

    async def ticks(number: int, _context: Any) -> AsyncIterator[int]:
        while True:
            yield number
            await asyncio.sleep(TICK_S)

    unary = grpc.unary_unary_rpc_method_handler(execute, request_deserializer=unpack, response_serializer=pack)
    stream = grpc.unary_stream_rpc_method_handler(ticks, request_deserializer=unpack, response_serializer=pack)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    handlers = {"Look": unary, "Place": unary, "Ticks": stream}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("failover.Node", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    print(json.dumps({"event": "ready", "port": port}), flush=True)
    await stop.wait()
    await server.stop(DRAIN_S)


# ------------------------------------------------------------------------------------------------------------------ a caller


class Caller:
    """One channel to all nodes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._look = channel.unary_unary("/failover.Node/Look", request_serializer=pack, response_deserializer=unpack)
        self._place = channel.unary_unary("/failover.Node/Place", request_serializer=pack, response_deserializer=unpack)
        self._ticks = channel.unary_stream("/failover.Node/Ticks", request_serializer=pack, response_deserializer=unpack)

    async def ready(self) -> None:
        """Return when the channel is ready. Cancel: loses nothing."""
        await self._channel.channel_ready()

    async def call(self, call_id: int, idempotent: bool) -> tuple[Outcome, str]:
        """Make a call; return how it ended and why. Cancel: the call is given up."""
        try:
            found = await (self._look if idempotent else self._place)(call_id, timeout=DEADLINE_S)
        except grpc.aio.AioRpcError as error:
            return outcome_of(error.code(), error.details() or ""), f"{error.code().name}: {error.details()}"
        return ("ok", "") if found == call_id else ("failed", "the answer to another call")

    async def ticks(self, number: int) -> AsyncGenerator[int]:
        """Open a stream that goes on for ever. Cancel: the stream is cancelled."""
        call = self._ticks(number)
        try:
            async for item in call:
                yield item
        finally:
            call.cancel()

    async def close(self) -> None:
        """Close the channel. Cancel: the rest is dropped."""
        await self._channel.close()


def outcome_of(code: grpc.StatusCode, details: str) -> Outcome:
    """Return what a status tells a caller: gRPC says that a call was surely not executed only where it found no connection for it."""
    if code is grpc.StatusCode.UNAVAILABLE and "failed to connect" in details:
        return "not_executed"
    if code in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.RESOURCE_EXHAUSTED):
        return "not_executed"
    return "failed" if code is grpc.StatusCode.UNKNOWN else "unknown"


async def connect(ports: list[int], variant: str) -> Link:
    """Return a link to the nodes at these ports. Cancel: loses nothing."""
    options = [*CHANNEL_OPTIONS, ("grpc.service_config", json.dumps(SERVICE_CONFIG))]
    return Caller(grpc.aio.insecure_channel("ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports), options=options))


if __name__ == "__main__":
    import uvloop

    uvloop.run(serve())
