"""grpc.aio, on uvloop: one channel, protobuf messages, what the code generator would register."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from bench.peers import says


def message_class() -> Any:
    """Return the class that `message Echo { int64 a = 1; string s = 2; }` stands for."""
    file = descriptor_pb2.FileDescriptorProto(name="bench_echo.proto", package="bench", syntax="proto3")
    message = file.message_type.add(name="Echo")
    optional = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
    message.field.add(name="a", number=1, label=optional, type=descriptor_pb2.FieldDescriptorProto.TYPE_INT64)
    message.field.add(name="s", number=2, label=optional, type=descriptor_pb2.FieldDescriptorProto.TYPE_STRING)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Echo"))


Echo = message_class()


async def serve() -> None:
    """Serve until a signal. Cancel: stops it."""

    async def echo(message: Any, _context: Any) -> Any:
        return message

    server = grpc.aio.server()
    method = grpc.unary_unary_rpc_method_handler(echo, request_deserializer=Echo.FromString, response_serializer=Echo.SerializeToString)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Bench", {"Echo": method}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    says(port)
    await server.wait_for_termination()


class Link:
    """One channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self._call = channel.unary_unary(
            "/bench.Bench/Echo", request_serializer=Echo.SerializeToString, response_deserializer=Echo.FromString
        )

    def echo(self, a: int, s: str) -> Any:
        """Give back what came."""
        return self._call(Echo(a=a, s=s))

    async def close(self) -> None:
        """Close the channel. Cancel: the rest is dropped."""
        await self._channel.close()


async def connect(where: dict[str, Any], in_flight: int) -> Link:
    """Return a link."""
    return Link(grpc.aio.insecure_channel(f"127.0.0.1:{where['port']}"))
