"""The spine campaign: holdfast's own client and server in worlds where everything fails, and what must hold all the same.

Owns: the scenario `spine` and the order of a world. First the *storm*: faults come, clients do what was drawn for them, the server goes
down and comes back. At CALM_AT_S the faults are over, and everybody goes through these stages together:

    alive      each client makes a new call, which must succeed
    empty      nothing of any call is left, on either side
    goodbye    calls are under way while the server goes down politely: each is answered, or was surely not executed
    closing    the clients are closed, and nothing of them is left; then the server
    judgement  what callers were told is compared with what was executed

An invariant has a short name, by which failures are told apart: ended-once, no-hang, deadline, no-means-no, once, right-answer, in-order,
credit, nothing-left, lives-again, drained, honest, loop-clean.

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
from holdfast.control.wheel import Wheel
from holdfast.net.network import KernelNetwork
from holdfast.net.options import ConnectOptions
from holdfast.sim import Climate, Scenario, World, operations
from tests.sim import staging
from tests.sim.staging import meet, settled, stop_at_first, storm

from .callers import Caller
from .drawing import CALM_AT_S, HOSTS, REMOTE, Draw, Party, draw
from .judging import left_in_client, left_in_process, left_in_server, overdrawn, overdrawn_desk, sessions_of
from .service import Answer, Log, svc
from .truth import SOMETIMES, Emitter, Truth, spying

PLACE = "tests/sim/spine/campaign.py::spine"
CLIMATE = Climate(
    hosts=("server", *HOSTS),
    links=(("server", "ada"), ("server", "bob"), ("server", "ada,bob")),
    begin_s=0.05,
    calm_at_s=CALM_AT_S,
)

LOOK_S = 0.05
"""How often somebody looks whether the next stage has come, and whether an account is overdrawn."""

SILENCE_S = 18.0
"""Longer than a peer may be silent."""

LIVES_AGAIN_S = 40.0
"""A connection that is dead is given up after 15 s; then there is back-off, a handshake, and what TCP waits after a long silence."""

EMPTY_S = 40.0
GOODBYE_NAP_S = 0.3


class Stage(staging.Stage):
    """The stages, and who has come how far."""

    truth: Truth
    drawn: Draw
    look_s = LOOK_S

    def __init__(self, world: World, truth: Truth, drawn: Draw) -> None:
        super().__init__(world, truth, drawn)
        self.goodbye_at = 0.0
        self.serving = 0


def network_of(water: tuple[int, int] | None, connecting: ConnectOptions | None = None) -> KernelNetwork | None:
    """What production makes for itself, with other marks for when writing pauses; None: have it made."""
    if water is None:
        return None
    loop = asyncio.get_running_loop()
    wheel, how = Wheel(loop.time, loop.call_at), connecting or ConnectOptions()
    return KernelNetwork(loop.create_task, wheel, high_water_bytes=water[0], low_water_bytes=water[1], connecting=how)


# ------------------------------------------------------------------------------------------------------------------------ server


async def serve(stage: Stage) -> None:
    """The server's process: serve; go down politely when it is time, and come back."""
    world, drawn, truth = stage.world, stage.drawn, stage.truth
    process = world._engine.current
    emit = Emitter(truth, drawn.tells_calls)
    drains = [at_s for at_s in drawn.drains_at_s if at_s > world.now()]
    said_goodbye = False
    while truth.stage != "closing" or not all_closed(stage):
        server = holdfast.serve(
            svc,
            bind=drawn.bind,
            tls=drawn.tls_server,
            config=drawn.server,
            emit=emit,
            network=network_of(drawn.water_server),
            seed=world.seed,
            **drawn.security,
        )
        async with server:
            stage.servers.append((process, server))
            while True:
                await asyncio.sleep(LOOK_S)
                if drains and world.now() >= drains[0]:
                    drains.pop(0)
                    break
                if not said_goodbye and stage.goodbye_at and world.now() >= stage.goodbye_at:
                    said_goodbye = True
                    break
                if truth.stage == "closing" and all_closed(stage):
                    break
            wheel = next((session._shared.wheel for session in server._sessions if hasattr(session, "_shared")), None)
        stage.servers.remove((process, server))
        truth.require(not server._sessions, "nothing-left", f"a closed server has {len(server._sessions)} sessions")
        desk = server._desk
        assert desk is not None
        await settled(stage, partial(left_when_closed, desk, process, wheel), within_s=3.0)
    stage.done("closed", "server")


def left_when_closed(desk: Any, process: Any, wheel: Any) -> list[str]:
    """What is left of a server that was closed. A handler that takes longer to clean up than it was given is not waited for."""
    found = left_in_process(process, wheel)
    if desk.running:
        found.append(f"{desk.running} handlers")
    if len(desk.scope):
        found.append(f"{len(desk.scope)} tasks of the scope")
    return [f"closed server: {each}" for each in found]


def all_closed(stage: Stage) -> bool:
    """Whether every client is closed."""
    return len(stage.reached.get("closed", ())) == len(stage.drawn.parties)


# ------------------------------------------------------------------------------------------------------------------------ client


async def use(stage: Stage, party: Party) -> None:
    """A client's process: what was drawn for it, then the stages. One that was killed goes on with what it has not begun."""
    world, truth, drawn = stage.world, stage.truth, stage.drawn
    process = world._engine.current
    if party.name in stage.reached.get("closed", ()):
        return
    emit = Emitter(truth, drawn.tells_calls)
    made = holdfast.connect(
        drawn.url,
        tls=drawn.tls_client,
        config=party.config,
        emit=emit,
        network=network_of(drawn.water_client, party.config.connect),
        seed=party.seed ^ process.pid,
        **drawn.security,
    )
    async with made as client:
        entry = (process, client)
        stage.clients.append(entry)
        caller = Caller(truth, client)
        await storm(stage, party, caller.do, CALM_AT_S)
        if drawn.tells_calls:
            ended = Counter({method: emit.ended[method] for method in caller.counted})
            text = f"{party.name} made calls {dict(caller.counted)} and was told of ends {dict(ended)}"
            truth.require(caller.counted == ended, "ended-once", text)
        for name, act in (("alive", live_again), ("empty", be_empty), ("goodbye", say_goodbye), ("empty again", be_empty)):
            await stage.until(name)
            if truth.broken:
                return
            await act(stage, party, client)
            stage.done(name, party.name)
        await stage.until("closing")
        wheel = client._core.dialer._shared.wheel
        stage.clients.remove(entry)
    await settled(stage, lambda: [f"closed client: {what}" for what in left_in_process(process, wheel)], within_s=5.0)
    stage.done("closed", party.name)


async def live_again(stage: Stage, party: Party, client: holdfast.Client) -> None:
    """The faults are over: a new call succeeds."""
    key = f"{party.name}-alive"
    view = client.using(attempts=20, wait_for_ready=True, deadline=LIVES_AGAIN_S)
    try:
        found = await view.call("spine.echo", key=key, body=b"", reply=3, returns=Answer)
    except errors.HoldfastError as error:
        stage.truth.require(False, "lives-again", f"{key}: {error!r}")
        return
    stage.truth.require(found.key == key, "right-answer", f"{key} got the answer of {found.key}")


async def be_empty(stage: Stage, party: Party, client: holdfast.Client) -> None:
    """Nothing of any call is left."""
    await settled(stage, lambda: [f"{party.name}: {what}" for what in left_in_client(client)], within_s=EMPTY_S)


async def say_goodbye(stage: Stage, party: Party, client: holdfast.Client) -> None:
    """Calls while the server goes down: before, in that moment, and when it is down."""
    rng: Any = stage.world.rng.stream(f"goodbye/{party.name}")
    truth, told = stage.truth, stage.drawn.server
    patient = told.drain_s >= 1.0 and stage.world.options.stall_max_s == 0.0 and told.handlers_max >= 1000

    async def one(number: int) -> None:
        key = f"{party.name}-goodbye-{number}"
        await asyncio.sleep(max(0.0, stage.goodbye_at - stage.world.now() + rng.uniform(-0.3, 0.3)))
        try:
            await client.using(attempts=1, deadline=10.0).call("spine.nap", key=key, body=b"", reply=3, nap_s=GOODBYE_NAP_S, returns=Answer)
        except errors.HoldfastError as error:
            truth.over[key] = f"{type(error).__name__}/{error.executed}"
            truth.require(error.executed == "no" or not patient, "drained", f"{key} ended with {error!r}, executed={error.executed}")
        else:
            truth.over[key] = "ok"

    await asyncio.gather(*(one(number) for number in range(3)))


# ------------------------------------------------------------------------------------------------------------------------- world


async def play(world: World) -> None:
    """One world. Raises: InvariantBroken."""
    drawn = draw(world)
    Log.truth = truth = Truth(world)
    stage = Stage(world, truth, drawn)
    with spying(truth), warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # streams are abandoned on purpose
        await _play(stage)


async def _play(stage: Stage) -> None:
    world, drawn = stage.world, stage.drawn
    server = world.host("server")
    server.start(partial(serve, stage), name="serve")
    for name in (*HOSTS, REMOTE):
        world.host(name)
    if drawn.bandwidth is not None:
        world.link(server, HOSTS, bandwidth_bytes_per_s=drawn.bandwidth)
    for party in drawn.parties:
        ops = operations(world, party.ops, party.name)
        stage.kept[party.name] = {op.key: op for op in ops}
        world.host(party.host).start(partial(use, stage, party), name=party.name)
    if drawn.tls_server is not None:
        stage.truth.reached("everything over TLS")
    watching = asyncio.get_running_loop().create_task(watch(stage))
    cutting = asyncio.get_running_loop().create_task(cut_off(stage))
    try:
        await lead(stage)
    finally:
        for task in (watching, cutting):
            task.cancel()
        await asyncio.gather(watching, cutting, return_exceptions=True)
    judge(stage)


async def cut_off(stage: Stage) -> None:
    """In some worlds one host is cut off for so long that only silence can tell."""
    if stage.drawn.silence_at_s is not None:
        await asyncio.sleep(stage.drawn.silence_at_s)
        stage.world.partition("server", REMOTE)
        await asyncio.sleep(SILENCE_S)
        stage.world.repair("server", REMOTE)


async def watch(stage: Stage) -> None:
    """Look at every account, again and again."""
    while True:
        for process, owner in [*stage.servers, *stage.clients]:
            if process.alive:
                for session in sessions_of(owner):
                    for what in overdrawn(session):
                        stage.truth.require(False, "credit", what)
                if isinstance(owner, holdfast.Server):
                    for what in overdrawn_desk(owner):
                        stage.truth.require(False, "credit", what)
        await asyncio.sleep(LOOK_S)


async def lead(stage: Stage) -> None:
    """Take the world through its stages. Raises: InvariantBroken, the first that was noted."""
    truth, world = stage.truth, stage.world
    await meet(stage, "storm")
    if stage.drawn.silence_at_s is not None:
        await asyncio.sleep(max(0.0, stage.drawn.silence_at_s + SILENCE_S - world.now()))
    for name in ("alive", "empty", "goodbye", "empty again"):
        if name == "goodbye":
            stage.goodbye_at = world.now() + 0.5
        truth.stage = name
        await meet(stage, name)
        if name.startswith("empty"):
            await settled(
                stage, lambda: [what for process, each in stage.servers if process.alive for what in left_in_server(each)], EMPTY_S
            )
            stop_at_first(stage)
    truth.stage = "closing"
    await meet(stage, "closed", also=("server",))


def judge(stage: Stage) -> None:
    """Compare what callers were told with what was executed. Raises: InvariantBroken."""
    truth = stage.truth
    ops = {op.key: op for party in stage.drawn.parties for op in party.ops}
    for key, times in truth.executed.items():
        op = ops.get(key)
        idempotent = (op is None and key.endswith("-alive")) or (op is not None and op.what in ("echo", "doze", "count", "timed"))
        most = (op.attempts if op is not None else 20) if idempotent else 1
        truth.require(len(times) <= most, "once", f"{op or key} was executed {len(times)} times, at {times}")
        if len(times) > 1:
            truth.reached("a call was executed twice, as it may")
    for key, ending in truth.over.items():
        times, op = truth.executed.get(key, []), ops.get(key)
        if ending.endswith("/no"):
            truth.require(not times, "no-means-no", f"{op or key} ended with {ending}, and was executed at {times}")
        if ending == "ok" and (op is None or op.what not in ("ready", "catalogue")):
            truth.require(times, "once", f"{op or key} ended well and was never executed")
    stop_at_first(stage)


spine = Scenario(name="spine", body=play, climate=CLIMATE, sometimes=SOMETIMES, place=PLACE, within_s=300.0)
