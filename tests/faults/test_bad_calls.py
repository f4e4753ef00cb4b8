"""Calls that cannot be right: the error says what was expected, what came and what to do, nothing ran that should not, nothing is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, Protocol

import msgspec
import pytest

import holdfast
from holdfast.facts import HandlerFailed
from holdfast.wire import Settings, frames

from .helpers import Rig, call_frame, raw_peer, rig


class Order(msgspec.Struct):
    id: str
    qty: int


runs: list[str] = []
svc = holdfast.Service("shop")


@svc.method
async def place(order: Order, express: bool = False) -> str:
    runs.append("place")
    return f"receipt-{order.id}"


@svc.method
async def wrong(kind: str) -> int:
    runs.append("wrong")
    return {"text": "seven", "none": None, "object": object(), "set": {1, 2}}[kind]  # type: ignore[return-value]


@svc.method
async def watch(kind: str) -> AsyncIterator[int]:
    yield 1
    yield {"text": "seven", "object": object()}[kind]  # type: ignore[misc]


@svc.method
async def total(numbers: AsyncIterator[int]) -> int:
    return sum([number async for number in numbers])


@svc.method
async def size(data: bytes) -> int:
    runs.append("size")
    return len(data)


@svc.method
async def big(n: int) -> bytes:
    runs.append("big")
    return bytes(n)


@svc.method
async def big_items(n: int) -> AsyncIterator[bytes]:
    yield bytes(n)


class Shop(Protocol):
    async def place(self, order: Order, express: bool = False) -> str: ...
    async def wrong(self, kind: str) -> int: ...
    def watch(self, kind: str) -> AsyncIterator[int]: ...


async def still_works(here: Rig) -> None:
    """The fault cost nobody else anything: the same connection answers."""
    connections = here.theirs
    assert await here.client.call("shop.place", Order("o-1", 2), returns=str) == "receipt-o-1"
    assert here.theirs == connections
    await here.clean()


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    runs.clear()


# --------------------------------------------------------------------------------------------------------- methods, arguments


@pytest.mark.both_loops
async def test_an_unknown_method_is_answered_with_the_nearest_name() -> None:
    async with rig(svc) as here:
        with pytest.raises(holdfast.MethodNotFound, match=r"no method 'shop\.plaice'; did you mean shop\.place\b") as caught:
            await here.client.call("shop.plaice", 1)
        assert caught.value.executed == "no"
        with pytest.raises(holdfast.MethodNotFound, match="no method 'nothing.like.it'"):
            await here.client.call("nothing.like.it")
        with pytest.raises(holdfast.MethodNotFound, match=r"did you mean shop\.watch\b"):
            async with here.client.stream("shop.wach") as items:
                async for _ in items:
                    pass
        await still_works(here)


async def test_the_server_answers_the_same_to_a_peer_that_never_saw_the_catalogue() -> None:
    async with rig(svc) as here, raw_peer(here.url, hello=True) as peer:
        peer.send(call_frame("shop.plaice"))
        assert b"did you mean shop.place" in (await peer.frame_of(frames.ERROR))[2]
        peer.send(call_frame("x" * 255, call_id=2))
        assert len((await peer.frame_of(frames.ERROR))[2]) < 600
        peer.send(call_frame("\x00\xff", call_id=3))
        assert b"there is no method" in (await peer.frame_of(frames.ERROR))[2]
        await still_works(here)


ORDER = {"id": "o-1", "qty": 2}
BAD_ARGUMENTS: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "missing": ((), {}, r"missing argument 'order'; the signature is place"),
    "extra": ((ORDER, False, 3), {}, r"shop\.place"),
    "unknown name": ((ORDER,), {"expres": True}, r"expres"),
    "given twice": ((ORDER,), {"order": ORDER}, r"order"),
    "mistyped": ((ORDER,), {"express": "yes"}, r"express.*bool.*str"),
    "mistyped inside": (({"id": "o-1", "qty": "two"},), {}, r"order\.qty.*int.*str"),
    "missing inside": (({"id": "o-1"},), {}, r"order.*qty"),
    "cannot travel": ((object(),), {}, r"order.*object"),
}


@pytest.mark.parametrize("name", BAD_ARGUMENTS)
async def test_a_bad_argument_is_named_by_its_path_and_nothing_runs(name: str) -> None:
    args, kwargs, said = BAD_ARGUMENTS[name]
    async with rig(svc) as here:
        with pytest.raises(holdfast.InvalidArgument, match=said) as caught:
            await here.client.call("shop.place", *args, **kwargs)
        assert caught.value.executed == "no"
        assert runs == []
        await still_works(here)


async def test_a_caller_with_types_of_its_own_is_refused_before_anything_leaves() -> None:
    async with rig(svc) as here:
        bound = here.client.bind(Shop)
        before = here.ours.conn.last_id
        with pytest.raises(holdfast.InvalidArgument, match=r"order\.qty.*int.*str"):
            await bound.place(Order("o-1", "two"))  # type: ignore[arg-type]
        with pytest.raises(holdfast.InvalidArgument, match=r"kind.*str.*int"):
            await bound.wrong(7)  # type: ignore[arg-type]
        assert here.ours.conn.last_id == before
        await still_works(here)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "order"),
        ({"order": ORDER, "colour": 1}, "colour"),
        ({"order": {"id": "o-1", "qty": "two"}}, "order.qty"),
        ({"order": {"id": "o-1"}}, "qty"),
        ([1], "shop.place"),
        (7, "shop.place"),
    ],
)
async def test_the_server_checks_arguments_itself_before_the_handler_runs(body: Any, said: str) -> None:
    async with rig(svc) as here, raw_peer(here.url, hello=True) as peer:
        peer.send(call_frame("shop.place", msgspec.msgpack.encode(body)))
        _, _, answer = await peer.frame_of(frames.ERROR)
        decoded = msgspec.msgpack.decode(answer)
        assert decoded["c"] == 3
        assert decoded["x"] == 0
        assert said in decoded["m"]
        assert runs == []
        await still_works(here)


async def test_a_bad_item_ends_an_upload_and_names_itself() -> None:
    async def numbers() -> AsyncIterator[Any]:
        yield 1
        yield "two"

    async with rig(svc) as here:
        with pytest.raises(holdfast.InvalidArgument, match=r"numbers.*int.*str"):
            await here.client.call("shop.total", numbers=numbers(), returns=int)
        await still_works(here)


# --------------------------------------------------------------------------------------------------------------------- replies


@pytest.mark.parametrize("kind", ["text", "none"])
async def test_a_reply_that_does_not_fit_its_type_is_a_bad_reply(kind: str) -> None:
    async with rig(svc, attempts=3) as here:
        bound = here.client.bind(Shop)
        with pytest.raises(holdfast.BadReply, match=r"shop\.wrong is not int") as caught:
            await bound.wrong(kind)
        assert caught.value.executed == "yes"
        with pytest.raises(holdfast.BadReply, match="int"):
            await here.client.call("shop.wrong", kind, returns=int)
        assert runs == ["wrong", "wrong"]  # and it was not tried again
        await still_works(here)


async def test_a_result_that_cannot_travel_is_the_servers_fault_and_in_its_log() -> None:
    async with rig(svc) as here:
        with pytest.raises(holdfast.InternalError, match=r"shop\.wrong failed; the server's log has it as incident (\w+)") as caught:
            await here.client.call("shop.wrong", "object")
        (failed,) = here.seen(HandlerFailed)
        assert failed.incident in str(caught.value)
        assert "object" not in str(caught.value)
        assert "shop.wrong" in str(failed.error)
        await still_works(here)


async def test_an_item_that_does_not_fit_its_type_ends_the_stream() -> None:
    async with rig(svc) as here:
        got: list[int] = []
        with pytest.raises(holdfast.BadReply, match=r"an item of shop\.watch is not int"):
            async for item in here.client.bind(Shop).watch("text"):
                got.append(item)  # noqa: PERF401 # what came before the error is what is asked for
        assert got == [1]
        with pytest.raises(holdfast.InternalError, match="incident"):
            async with here.client.stream("shop.watch", "object") as items:
                async for _ in items:
                    pass
        await still_works(here)


# ------------------------------------------------------------------------------------------------------------------------ size


SMALL = Settings(message_max_bytes=64 * 1024, frame_max_bytes=4096)
LIMIT = SMALL.message_max_bytes


async def test_a_request_above_the_limit_is_refused_before_it_leaves() -> None:
    async with rig(svc, wire=SMALL) as here:
        assert await here.client.call("shop.size", bytes(LIMIT)) == LIMIT
        said = f"a message of {LIMIT + 1} bytes; the server takes {LIMIT}: send it as a stream"
        with pytest.raises(holdfast.InvalidArgument, match=said) as caught:
            await here.client.call("shop.size", bytes(LIMIT + 1))
        assert caught.value.executed == "no"
        assert runs == ["size"]
        await still_works(here)


async def test_a_request_above_the_limit_of_a_peer_that_does_not_care_is_refused_alone() -> None:
    async with rig(svc, wire=SMALL) as here, raw_peer(here.url, hello=True) as peer:
        head = frames.TOTAL.pack(LIMIT + 1) + frames.CALL_HEAD.pack(0, 1, 0, 9) + b"shop.size"
        peer.send(frames.pack_frame(frames.CALL, frames.MORE | frames.RAW, 1, head))
        peer.send(frames.pack_frame(frames.PIECE, frames.MORE, 1, bytes(4096)) * 4)  # was on its way already
        _, call_id, body = await peer.frame_of(frames.ERROR)
        assert call_id == 1
        assert f"a message of {LIMIT + 1} bytes; the limit is {LIMIT}".encode() in body
        peer.send(call_frame("shop.size", b"abc", call_id=2, raw=True))
        assert (await peer.frame_of(frames.REPLY))[2] == b"\x03"
        assert runs == ["size"]
        await still_works(here)


@pytest.mark.both_loops
async def test_a_reply_above_the_callers_limit_is_an_error_and_not_sent() -> None:
    async with rig(svc, client_config=holdfast.ClientConfig(wire=SMALL)) as here:
        assert len(await here.client.call("shop.big", LIMIT)) == LIMIT
        with pytest.raises(holdfast.Overloaded, match=f"its answer has {LIMIT + 1} bytes and you take {LIMIT}: make it a stream") as caught:
            await here.client.call("shop.big", LIMIT + 1)
        assert caught.value.executed == "yes", "so that nobody tries it again"
        assert here.seen(HandlerFailed) == []
        await still_works(here)


async def test_an_item_above_the_callers_limit_ends_the_stream() -> None:
    async with rig(svc, client_config=holdfast.ClientConfig(wire=SMALL)) as here:
        async with here.client.stream("shop.big_items", LIMIT, returns=bytes) as items:
            assert [len(item) async for item in items] == [LIMIT]
        with pytest.raises(holdfast.HoldfastError):
            async with here.client.stream("shop.big_items", LIMIT + 1) as items:
                async for _ in items:
                    pass
        await still_works(here)
