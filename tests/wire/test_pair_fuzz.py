"""Two machines back to back under any order of calls, items, cancels and deliveries, judged by a model that knows no frames.

What must hold: nobody breaks the protocol; every body arrives whole, once and in order; nothing waits for ever once readers read; and when
all is over no byte of credit or budget is missing. `HOLDFAST_FUZZ_EXAMPLES` asks for more examples than the default.
"""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings as examples
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from holdfast.wire import (
    Called,
    CallState,
    CancelReceived,
    Drained,
    Ended,
    Errored,
    Event,
    Failed,
    IncomingCall,
    ItemReceived,
    Replied,
    Settings,
    Unusable,
)
from tests.conftest import EXAMPLES
from tests.wire.helpers import Pair

SIZES = [0, 1, 100, 895, 960, 961, 1010, 1020, 1024, 1984, 2000, 2048, 4032, 4096, 5000, 12_288, 16_384]


def content(call: int, side: str, number: int, size: int) -> bytes:
    """Bytes that say where they belong, so that a piece in the wrong place shows."""
    mark = f"{side}{call}.{number}|".encode()
    return (mark * (size // len(mark) + 1))[:size]


class Side:
    """What one end of a call has done and seen."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.got: list[bytes] = []
        self.unread: list[ItemReceived] = []
        self.may_send = False
        self.waiting = False
        self.ended = False
        self.peer_ended = False


class Talk:
    """One call, as the model sees it."""

    def __init__(self, number: int, body: bytes, sends: bool, takes: bool) -> None:
        self.number = number
        self.body = body
        self.state = CallState()
        self.incoming: IncomingCall | None = None
        self.client, self.server = Side(), Side()
        self.client.may_send, self.takes = sends, takes
        self.reply: bytes | None = None
        self.over_at_client = False
        self.over_at_server = False
        self.cancelled = False


class TwoMachines(RuleBasedStateMachine):
    """The rules are what two applications may do; the network delivers as much as it likes, when it likes."""

    def __init__(self) -> None:
        super().__init__()
        self.talks: list[Talk] = []
        self.server_calls: list[CallState] = []

    @initialize(
        frame=st.sampled_from([1024, 1500, 4096]),
        stream=st.sampled_from([4096, 5001, 16_384]),
        connection=st.sampled_from([4096, 8193, 65_536]),
        budget=st.sampled_from([3000, 20_000, 1 << 30]),
        open_calls=st.sampled_from([2, 1000]),
    )
    def meet(self, frame: int, stream: int, connection: int, budget: int, open_calls: int) -> None:
        settings = Settings(
            frame_max_bytes=frame,
            message_max_bytes=16_384,
            stream_window_bytes=stream,
            connection_window_bytes=connection,
            open_calls_max=open_calls,
        )
        self.pair = Pair(settings, settings, budget_bytes=budget)
        self.roomy = budget == 1 << 30 and open_calls == 1000

    # ------------------------------------------------------------------ what applications do

    @rule(size=st.sampled_from(SIZES), sends=st.booleans(), takes=st.booleans())
    def open(self, size: int, sends: bool, takes: bool) -> None:
        number = len(self.talks)
        talk = Talk(number, content(number, "q", 0, size), sends, takes)
        self.talks.append(talk)
        self.pair.client.open_call(talk.state, str(number).encode(), talk.body, True, 0, number, sends_items=sends, takes_items=takes)

    def pick(self, data: st.DataObject, talks: list[Talk]) -> Talk | None:
        return data.draw(st.sampled_from(talks)) if talks else None

    def open_at_client(self) -> list[Talk]:
        return [talk for talk in self.talks if not talk.over_at_client]

    def open_at_server(self) -> list[Talk]:
        return [talk for talk in self.talks if talk.incoming is not None and not talk.over_at_server]

    @precondition(lambda self: self.open_at_client())
    @rule(data=st.data(), size=st.sampled_from(SIZES))
    def client_item(self, data: st.DataObject, size: int) -> None:
        talk = self.pick(data, [t for t in self.open_at_client() if t.client.may_send and not t.client.ended and not t.client.waiting])
        if talk is not None:
            body = content(talk.number, "c", len(talk.client.sent), size)
            talk.client.sent.append(body)
            talk.client.waiting = not self.pair.client.send_item(talk.state, body, True)

    @precondition(lambda self: self.open_at_server())
    @rule(data=st.data(), size=st.sampled_from(SIZES))
    def server_item(self, data: st.DataObject, size: int) -> None:
        talk = self.pick(data, [t for t in self.open_at_server() if t.takes and not t.server.ended and not t.server.waiting])
        if talk is not None:
            assert talk.incoming is not None
            body = content(talk.number, "s", len(talk.server.sent), size)
            talk.server.sent.append(body)
            talk.server.waiting = not self.pair.server.send_item(talk.incoming, body, True)

    @precondition(lambda self: self.open_at_client())
    @rule(data=st.data())
    def client_end(self, data: st.DataObject) -> None:
        talk = self.pick(data, [t for t in self.open_at_client() if t.client.may_send])
        if talk is not None:
            self.pair.client.send_end(talk.state)
            talk.client.ended = True

    @precondition(lambda self: self.open_at_client())
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        talk = self.pick(data, self.open_at_client())
        if talk is not None:
            was_whole = self.pair.client.cancel(talk.state)
            assert was_whole or talk.incoming is None
            self.over_for_client(talk)
            talk.cancelled = True

    @precondition(lambda self: self.open_at_server())
    @rule(data=st.data(), size=st.sampled_from(SIZES))
    def answer(self, data: st.DataObject, size: int) -> None:
        talk = self.pick(data, self.open_at_server())
        if talk is None or talk.incoming is None:
            return
        if talk.takes:
            self.pair.server.send_end(talk.incoming)
            talk.server.ended = True
            talk.over_at_server = talk.incoming.id not in self.pair.server.calls
        else:
            talk.reply = content(talk.number, "r", 0, size)
            self.pair.server.send_reply(talk.incoming, talk.reply, True)
            talk.over_at_server = True

    @precondition(lambda self: self.open_at_server())
    @rule(data=st.data())
    def refuse(self, data: st.DataObject) -> None:
        talk = self.pick(data, self.open_at_server())
        if talk is not None and talk.incoming is not None:
            self.pair.server.send_error(talk.incoming, b"no")
            talk.over_at_server = True

    @rule(data=st.data(), count=st.integers(1, 5))
    def read(self, data: st.DataObject, count: int) -> None:
        readers = [(side, where) for t in self.talks for side, where in ((t.client, "client"), (t.server, "server")) if side.unread]
        if readers:
            side, where = data.draw(st.sampled_from(readers))
            self.consume(side, where, count)

    def consume(self, side: Side, where: str, count: int) -> None:
        connection = self.pair.client if where == "client" else self.pair.server
        for item in side.unread[:count]:
            connection.consume(item)
        del side.unread[:count]

    # ------------------------------------------------------------------ what the network does

    @rule(count=st.sampled_from([1, 13, 14, 15, 100, 1000, 100_000]), limit=st.sampled_from([1, 1000, 65_536]))
    def move(self, count: int, limit: int) -> None:
        self.pair.write(limit)
        self.pair.deliver(count)
        self.told()

    def told(self) -> None:
        ours, theirs = self.pair.events()
        for event in ours:
            self.client_told(event)
        for event in theirs:
            self.server_told(event)

    def talk_of(self, event: Event) -> Talk:
        call = getattr(event, "call", None)
        assert isinstance(call, CallState)
        if isinstance(call, IncomingCall):
            return self.talks[int(call.method)]
        [talk] = [talk for talk in self.talks if talk.state is call]
        return talk

    def client_told(self, event: Event) -> None:
        assert not isinstance(event, Errored), event
        talk = self.talk_of(event)
        assert not talk.over_at_client, f"{event} after the end"
        if isinstance(event, ItemReceived):
            self.item(talk.client, talk.server, event)
        elif isinstance(event, Drained):
            talk.client.waiting = False
        elif isinstance(event, Replied):
            assert event.body == talk.reply
            self.over_for_client(talk)
        elif isinstance(event, Ended):
            assert talk.server.ended
            assert talk.client.got == talk.server.sent
            self.over_for_client(talk)
        else:
            assert isinstance(event, Failed | Unusable)
            assert isinstance(event, Failed) or not self.roomy
            self.over_for_client(talk)

    def over_for_client(self, talk: Talk) -> None:
        talk.over_at_client = True
        talk.client.waiting = False

    def server_told(self, event: Event) -> None:
        assert not isinstance(event, Errored), event
        talk = self.talk_of(event)
        if isinstance(event, Called):
            assert talk.incoming is None
            assert event.call.body == talk.body
            talk.incoming = event.call
            self.server_calls.append(event.call)
        elif isinstance(event, Unusable):
            assert not self.roomy
            self.server_calls.append(event.call)
            self.pair.server.send_error(event.call, b"full")
            talk.over_at_server = True
        elif isinstance(event, ItemReceived):
            assert talk.incoming is not None
            self.item(talk.server, talk.client, event)
        elif isinstance(event, Drained):
            talk.server.waiting = False
            talk.over_at_server |= event.call.id not in self.pair.server.calls
        elif isinstance(event, Ended):
            assert talk.client.ended
            assert talk.server.got == talk.client.sent
        else:
            assert isinstance(event, CancelReceived)
            assert talk.cancelled or not self.roomy
            if talk.incoming is not None:
                self.pair.server.finish(talk.incoming)
            talk.over_at_server = True

    def item(self, reader: Side, writer: Side, event: ItemReceived) -> None:
        assert event.body == writer.sent[len(reader.got)]
        reader.got.append(event.body)
        reader.unread.append(event)

    # ------------------------------------------------------------------ what always holds

    @invariant()
    def budgets_are_kept(self) -> None:
        if hasattr(self, "pair"):
            for budget in self.pair.budgets.values():
                assert 0 <= budget.used_bytes <= budget.limit_bytes
            assert self.pair.parent.used_bytes == sum(budget.used_bytes for budget in self.pair.budgets.values())
            assert self.pair.client.outbox.credit >= 0
            assert self.pair.server.outbox.credit >= 0

    def rest(self) -> None:
        """Deliver everything, and what the answers to it are, until nothing moves."""
        self.pair.pump()
        while self.pair.client_events or self.pair.server_events:
            self.told()
            self.pair.pump()

    @rule()
    def settle(self) -> None:
        self.rest()
        self.pair.check_credit([talk.state for talk in self.talks], self.server_calls)

    def teardown(self) -> None:
        if not hasattr(self, "pair"):
            return
        self.everything_that_was_sent_arrives()
        for talk in self.talks:
            if not talk.over_at_client:
                self.pair.client.cancel(talk.state)
                self.over_for_client(talk)
                talk.cancelled = True
        self.everything_that_was_sent_arrives()
        assert self.pair.client.calls == {}
        assert self.pair.server.calls == {}
        assert self.pair.parent.used_bytes == 0
        self.pair.check_credit([talk.state for talk in self.talks], self.server_calls)

    def everything_that_was_sent_arrives(self) -> None:
        """With readers that read, nothing waits for ever."""
        for _ in range(10_000):
            self.rest()
            busy = False
            for talk in self.talks:
                for side, where in ((talk.client, "client"), (talk.server, "server")):
                    busy = busy or bool(side.unread)
                    self.consume(side, where, len(side.unread))
            if not busy:
                break
        for talk in self.talks:
            assert not talk.client.waiting, f"an item of call {talk.number} waits for ever"
            assert talk.over_at_server or not talk.server.waiting, f"an item to call {talk.number} waits for ever"
            if not talk.over_at_client:
                assert talk.incoming is not None, f"call {talk.number} never arrived"
                if not talk.over_at_server:
                    assert talk.client.got == talk.server.sent
                    assert talk.server.got == talk.client.sent


TestTwoMachines = TwoMachines.TestCase
TestTwoMachines.settings = examples(max_examples=int(EXAMPLES or 60), stateful_step_count=40)
