"""Module globals that each process has for itself."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from holdfast.errors import ConfigError
from holdfast.rpc import dialer
from holdfast.sim import World
from tests.sim.stages import play

CACHE: dict[str, str] = {"from": "import"}
NAMES: list[str] = []
NUMBER = 3
MINE = ("tests.sim.test_globals:CACHE", "tests.sim.test_globals:NAMES")


def test_each_process_begins_with_a_copy_and_sees_no_other() -> None:
    from tests.sim import test_globals as this

    async def scenario(world: World) -> None:
        async def main(name: str) -> tuple[Any, ...]:
            assert dict(this.CACHE.items()) == {"from": "import"}
            this.CACHE[name] = "mine"
            this.NAMES.append(name)
            assert name in this.CACHE
            assert len(this.CACHE) == 2
            assert this.CACHE[name] == "mine"
            del this.CACHE["from"]
            await world.sleep(0.1)
            return list(this.CACHE), list(this.NAMES)

        both = [world.host(name).start(partial(main, name)) for name in "ab"]
        assert [await each for each in both] == [(["a"], ["a"]), (["b"], ["b"])]
        assert list(this.CACHE) == ["from"]

    play(scenario, per_process=MINE)
    assert this.CACHE == {"from": "import"}
    assert this.NAMES == []


def test_caches_of_holdfast_begin_empty_whatever_this_process_has_done() -> None:
    dialer._catalogues[b"of a real client"] = None  # type: ignore[assignment]

    async def scenario(world: World) -> int:
        return len(dialer._catalogues)

    try:
        assert play(scenario) == 0
        assert len(dialer._catalogues) >= 1
    finally:
        del dialer._catalogues[b"of a real client"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("tests.sim.nowhere:X", "expected `module:ATTRIBUTE` of something that is there"),
        ("tests.sim.test_globals:NOTHING", "expected `module:ATTRIBUTE` of something that is there"),
        ("tests.sim.test_globals:NUMBER", "expected a dict, list or set, found a int"),
    ],
)
def test_what_cannot_be_one_per_process_is_refused_and_nothing_stays_replaced(name: str, says: str) -> None:
    import socket

    before = socket.socket

    async def scenario(world: World) -> None:
        return

    with pytest.raises(ConfigError) as raised:
        play(scenario, per_process=(name,))
    assert says in str(raised.value)
    assert socket.socket is before
    play(scenario)
