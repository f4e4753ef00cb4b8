"""The fleet campaign: clients of several nodes, with every policy drawn, in worlds where nodes die, hang, lie and come back.

Owns: the scenario `fleet` and the order of a world. First the *storm*: faults come, nodes have moods, the set of nodes changes, clients do
what was drawn for them. At CALM_AT_S all that is over, and everybody goes through these stages together:

    alive      each client makes a new call, which must succeed
    empty      nothing of any call is left: no slot, no place in a queue, no probe, no attempt at a node
    heard      each connection is heard of, or given up: nobody is left who believes in a node that has forgotten them
    goodbye    calls are under way while one node after the other goes down politely and comes back: none fails
    closing    the clients are closed, and nothing of them is left; then the nodes
    judgement  what callers were told is compared with what was executed, on all nodes together

An invariant has a short name. Besides those of the spine (ended-once, no-hang, deadline, no-means-no, once, right-answer, in-order, credit,
nothing-left, lives-again, honest, loop-clean) there are:

    attempts        no more of them than the retry budget granted, and than its promise allows
    one-probe       while a breaker is open one attempt starts there, not two
    healthy-serves  a call that was promised a healthy node does not fail (`callers.py`)
    drained         a node that goes down politely costs no call anything while there is another one
    explained       the record of a call tells what became of it
    no-spin         a loop with next to nothing to do turns seldom

What may never happen here: a mock. From the socket upwards everything is what ships.
"""

from __future__ import annotations

import asyncio
import warnings
from collections import Counter
from functools import partial
from typing import Any

import holdfast
from holdfast import errors
from holdfast.sim import Climate, LoadModel, Scenario, World, WorldOptions, operations
from holdfast.sim.models import exponential
from tests.sim import staging
from tests.sim.spine.campaign import left_when_closed
from tests.sim.spine.judging import left_in_process, left_in_server, overdrawn, overdrawn_desk
from tests.sim.spine.judging import sessions_of as server_sessions_of
from tests.sim.spine.service import Answer
from tests.sim.staging import meet, settled, stop_at_first, storm

from .callers import Caller
from .drawing import CALM_AT_S, HOSTS, NODES, PORT, QUIET, ROCK, Draw, Mood, Party, address_of, draw
from .judging import left_in_client, overdrawn_policies, sessions_of, unheard
from .service import IDEMPOTENT, Log, svc
from .truth import SOMETIMES, Emitter, Truth, spying

PLACE = "tests/sim/fleet/campaign.py::fleet"
CLIMATE = Climate(
    hosts=(*NODES, *HOSTS),
    links=(*((node, "ada,bob,eve") for node in NODES), ("n0,n1", "ada"), ("n0,n1,n2,n3,n4", "ada,bob,eve")),
    begin_s=0.05,
    calm_at_s=CALM_AT_S,
)

OPTIONS = WorldOptions(callback_s=10e-6)
"""What a callback of a client takes on a real machine. The clock of deadlines is late by 7 ms at most, so 3 ms are left in which dozens of
calls that are due at once, with several attempts each, are told; at thirty millionths each of their callbacks would take longer."""

LOOK_S = 0.1
"""How often somebody looks whether the next stage has come, and whether an account is overdrawn."""

LIVES_AGAIN_S = 60.0
"""A connection that is dead is given up after 15 s; then there is back-off, what is left of a breaker, and of what a throttle remembers."""

EMPTY_S = 40.0
HEARD_S = 25.0
"""A node is asked after a heartbeat of silence, of 5 s at most, and is dead after 15 s."""

GOODBYE_NAP_S = 0.1
GOODBYE_CALLS = 4


class Stage(staging.Stage):
    """The stages, and who has come how far."""

    truth: Truth
    drawn: Draw
    look_s = LOOK_S

    def __init__(self, world: World, truth: Truth, drawn: Draw) -> None:
        super().__init__(world, truth, drawn)
        self.leaving: str | None = None
        self.rocks: tuple[str, ...] = ()


# ------------------------------------------------------------------------------------------------------------------------- nodes


async def serve(stage: Stage, name: str) -> None:
    """A node's process: serve; go down politely when it is time, and come back."""
    world, drawn, truth = stage.world, stage.drawn, stage.truth
    process: Any = world._engine.current
    emit = Emitter(truth, drawn.tells_calls)
    drains = [at_s for at_s in drawn.drains[name] if at_s > world.now()] if name in drawn.drains else []
    if drawn.capacity is not None:
        workers, mean_s = drawn.capacity
        rng = world.rng.stream(f"work/{name}/{process.pid}")
        truth.models[name] = LoadModel(exponential(mean_s), rng, workers=workers, queue_max=5)
    while truth.stage != "closing" or not all_closed(stage):
        config = drawn.servers[name]
        async with holdfast.serve(svc, bind=f"tcp://0.0.0.0:{PORT}", insecure=True, config=config, emit=emit, seed=process.pid) as server:
            stage.servers.append((process, server))
            while True:
                await asyncio.sleep(LOOK_S)
                if drains and world.now() >= drains[0]:
                    drains.pop(0)
                    break
                if stage.leaving == name:
                    stage.leaving = None
                    break
                if truth.stage == "closing" and all_closed(stage):
                    break
            wheel = next((session._shared.wheel for session in server._sessions if hasattr(session, "_shared")), None)
        stage.servers.remove((process, server))
        truth.require(not server._sessions, "nothing-left", f"a closed node has {len(server._sessions)} sessions")
        desk = server._desk
        assert desk is not None
        await settled(stage, partial(left_when_closed, desk, process, wheel), within_s=3.0)
    stage.done("closed", name)


def all_closed(stage: Stage) -> bool:
    """Whether every client is closed."""
    return {party.name for party in stage.drawn.parties} <= stage.reached.get("closed", set())


# ------------------------------------------------------------------------------------------------------------------------ client


async def use(stage: Stage, party: Party) -> None:
    """A client's process: what was drawn for it, then the stages. One that was killed goes on with what it has not begun."""
    world, truth, drawn = stage.world, stage.truth, stage.drawn
    process: Any = world._engine.current
    if party.name in stage.reached.get("closed", ()):
        return
    emit = Emitter(truth, drawn.tells_calls)
    made = holdfast.connect(drawn.url, config=party.config, emit=emit, seed=party.seed ^ process.pid, insecure=True)
    async with made as client:
        entry = (process, client)
        stage.clients.append(entry)
        caller = Caller(truth, client, drawn, party)
        await storm(stage, party, caller.do, CALM_AT_S)
        if drawn.tells_calls:
            ended = Counter({method: emit.ended[method] for method in caller.counted})
            text = f"{party.name} made calls {dict(caller.counted)} and was told of ends {dict(ended)}"
            truth.require(caller.counted == ended, "ended-once", text)
        for name, act in _ACTS:
            await stage.until(name)
            if truth.broken:
                return
            await act(stage, party, client)
            stage.done(name, party.name)
        await stage.until("closing")
        wheel = client._core.wheel
        stage.clients.remove(entry)
    await settled(stage, lambda: [f"closed client: {what}" for what in left_in_process(process, wheel)], within_s=5.0)
    stage.done("closed", party.name)


async def live_again(stage: Stage, party: Party, client: holdfast.Client) -> None:
    """The faults are over: a new call succeeds. The client may hold it back a few times, while it remembers the storm."""
    view = client.using(attempts=20, wait_for_ready=True, deadline=LIVES_AGAIN_S)
    until, number = stage.world.now() + LIVES_AGAIN_S, 0
    while True:
        number += 1
        key = f"{party.name}-alive-{number}"
        try:
            found = await view.call("fleet.echo", key=key, nap_s=0.0, returns=Answer)
        except errors.HoldfastError as error:
            stage.truth.over[key] = f"{type(error).__name__}/{error.executed}"
            if stage.world.now() >= until:
                stage.truth.require(False, "lives-again", f"{key}: {error!r}")
                return
            await asyncio.sleep(0.5)
        else:
            stage.truth.require(found.key == key, "right-answer", f"{key} got the answer of {found.key}")
            return


async def be_empty(stage: Stage, party: Party, client: holdfast.Client) -> None:
    """Nothing of any call is left."""
    await settled(stage, lambda: [f"{party.name}: {what}" for what in left_in_client(client)], within_s=EMPTY_S)


async def be_heard(stage: Stage, party: Party, client: holdfast.Client) -> None:
    """What broke in the storm and nobody noticed is found out by heartbeats: a call that goes there first may be lost, whoever drains."""
    began_at = stage.world.now()  # what a node sent before it died has come by now
    process: Any = stage.world._engine.current
    left = partial(unheard, client, process.clock, began_at)
    await settled(stage, lambda: [f"{party.name}: {what}" for what in left()], within_s=HEARD_S, invariant="lives-again")


async def say_goodbye(stage: Stage, party: Party, client: holdfast.Client) -> None:
    """Calls while nodes go down, one after the other: before, in that moment, and when it is down. None fails: there is another node."""
    rng: Any = stage.world.rng.stream(f"goodbye/{party.name}")
    truth, drawn = stage.truth, stage.drawn
    account = next(each for each in truth.accounts if each.core is client._core)
    node = drawn.nodes[rng.randrange(len(drawn.nodes))]
    if party is drawn.parties[0]:
        stage.leaving = node
    began_at = stage.world.now()
    steady = len(client._core.balancer.ready) >= 2 and stage.world.options.stall_max_s == 0.0 and drawn.capacity is None
    roomy = all(each.drain_s >= 1.0 and each.handlers_max >= 1000 for each in drawn.servers.values())
    failed: list[str] = []

    async def one(number: int) -> None:
        key = f"{party.name}-goodbye-{number}"
        await asyncio.sleep(rng.uniform(0.0, 0.4))
        method = "fleet.doze" if number % 2 else "fleet.nap"
        try:
            await client.using(attempts=6, deadline=10.0).call(method, key=key, nap_s=GOODBYE_NAP_S, returns=Answer)
        except errors.HoldfastError as error:
            truth.over[key] = f"{type(error).__name__}/{error.executed}"
            failed.append(f"{key} ended with {error!r}, executed={error.executed}")
        else:
            truth.over[key] = "ok"

    await asyncio.gather(*(one(number) for number in range(GOODBYE_CALLS)))
    if steady and roomy and len(drawn.parties) == 1 and max(account.denied_at, account.held_at) < began_at:
        truth.require(not failed, "drained", f"{node} went down, and {failed}")
        truth.reached("a node went down under calls, and none failed")


_ACTS = (("alive", live_again), ("empty", be_empty), ("heard", be_heard), ("goodbye", say_goodbye), ("empty again", be_empty))
"""What clients do in each stage between the storm and the closing."""


# ------------------------------------------------------------------------------------------------------------------------- world


async def play(world: World) -> None:
    """One world. Raises: InvariantBroken."""
    drawn = draw(world)
    Log.truth = truth = Truth(world)
    stage = Stage(world, truth, drawn)
    with spying(truth), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        await _play(stage)


async def _play(stage: Stage) -> None:
    world, drawn = stage.world, stage.drawn
    for name in (*NODES, ROCK, *HOSTS, QUIET):
        world.host(name)
    by_name = {name: world.host(name).kernel.addresses[0] for name in drawn.nodes}
    stage.rocks = (address_of(ROCK), address_of(by_name.get(ROCK, ROCK)))
    for name in drawn.nodes:
        world.host(name).start(partial(serve, stage, name), name=name)
    name_nodes(stage, by_name, drawn.named[0][1])
    for party in drawn.parties:
        ops = operations(world, party.ops, party.name)
        stage.kept[party.name] = {op.key: op for op in ops}
        world.host(party.host).start(partial(use, stage, party), name=party.name)
    loop = asyncio.get_running_loop()
    besides = [loop.create_task(each) for each in (watch(stage), change(stage, by_name), *(have(stage, mood) for mood in drawn.moods))]
    try:
        await lead(stage)
    finally:
        for task in besides:
            task.cancel()
        await asyncio.gather(*besides, return_exceptions=True)
    judge(stage)


def name_nodes(stage: Stage, by_name: dict[str, str], named: tuple[str, ...] | None) -> None:
    """The source names these nodes from now on."""
    if stage.drawn.source == "file":
        stage.truth.write(None if named is None else [address_of(node) for node in named])
    elif stage.drawn.source == "dns":
        stage.world.names.add("fleet", [by_name[node] for node in named or ()])


async def change(stage: Stage, by_name: dict[str, str]) -> None:
    """The set of nodes changes, and changes."""
    for at_s, named in stage.drawn.named[1:]:
        await asyncio.sleep(at_s - stage.world.now())
        name_nodes(stage, by_name, named)


async def have(stage: Stage, mood: Mood) -> None:
    """A node has a mood for a while."""
    await asyncio.sleep(mood.at_s)
    mine = stage.truth.moods[mood.node] = (mood.kind, mood.number)
    await asyncio.sleep(mood.until_s - stage.world.now())
    if stage.truth.moods.get(mood.node) is mine:
        del stage.truth.moods[mood.node]


async def watch(stage: Stage) -> None:
    """Look at every account, again and again."""
    while True:
        for process, server in stage.servers:
            if process.alive:
                note(stage, (what for session in server_sessions_of(server) for what in overdrawn(session)))
                note(stage, overdrawn_desk(server))
        for process, client in stage.clients:
            if process.alive:
                note(stage, (what for session in sessions_of(client) for what in overdrawn(session)))
                note(stage, overdrawn_policies(client._core))
        stage.truth.look(stage.rocks)
        await asyncio.sleep(LOOK_S)


def note(stage: Stage, found: Any) -> None:
    """Note that an account is overdrawn."""
    for what in found:
        stage.truth.require(False, "credit", what)


async def lead(stage: Stage) -> None:
    """Take the world through its stages. Raises: InvariantBroken, the first that was noted."""
    truth = stage.truth
    await meet(stage, "storm")
    for name, _ in _ACTS:
        truth.stage = name
        await meet(stage, name)
        if name.startswith("empty"):
            await settled(
                stage, lambda: [what for process, each in stage.servers if process.alive for what in left_in_server(each)], EMPTY_S
            )
            stop_at_first(stage)
    truth.stage = "closing"
    await meet(stage, "closed", also=stage.drawn.nodes)


def judge(stage: Stage) -> None:
    """Compare what callers were told with what was executed. Raises: InvariantBroken."""
    truth = stage.truth
    ops = {op.key: op for party in stage.drawn.parties for op in party.ops}
    for key, times in truth.executed.items():
        op = ops.get(key)
        if op is None:
            most = 20 if "-alive-" in key else 6 if int(key[-1]) % 2 else 1
        else:
            most = op.attempts if op.what in IDEMPOTENT and not op.once else 1
        truth.require(len(times) <= most, "once", f"{op or key} was executed {len(times)} times, at {times}")
        if len(times) > 1:
            truth.reached("a call was executed twice, as it may")
    for key, ending in truth.over.items():
        times = truth.executed.get(key, [])
        if ending.endswith("/no"):
            truth.require(not times, "no-means-no", f"{ops.get(key, key)} ended with {ending}, and was executed at {times}")
        if ending == "ok":
            truth.require(times, "once", f"{ops.get(key, key)} ended well and was never executed")
    stop_at_first(stage)


fleet = Scenario(name="fleet", body=play, climate=CLIMATE, sometimes=SOMETIMES, place=PLACE, within_s=300.0, options=OPTIONS)
