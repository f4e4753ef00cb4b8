"""Addresses that cannot be served or parsed: said at start, with what to write instead."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import holdfast

from .helpers import rig

svc = holdfast.Service("t")


@svc.method
async def echo(text: str) -> str:
    return text


@pytest.mark.both_loops
async def test_a_port_in_use_is_said_with_what_to_do_and_nothing_stays_open() -> None:
    async with rig(svc) as here:
        second = holdfast.serve(svc, bind=["tcp://127.0.0.1:0", here.url])
        with pytest.raises(holdfast.ConfigError, match=r"port \d+ is in use by another process; stop it, or choose another port"):
            await second.__aenter__()
        with pytest.raises(holdfast.Unavailable, match="Connection refused"):
            async with holdfast.connect(second.addresses[0], attempts=1) as client:
                await client.call("t.echo", "x")
        assert await here.client.call("t.echo", "x") == "x"


async def test_a_unix_path_in_use_or_not_a_socket_is_left_alone(tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.write_text("mine")
    with pytest.raises(holdfast.ConfigError, match="that path is taken, and not by a socket"):
        await holdfast.serve(svc, bind=f"unix://{taken}").__aenter__()
    assert taken.read_text() == "mine"
    async with rig(svc, bind=f"unix://{tmp_path}/s") as here:
        with pytest.raises(holdfast.ConfigError, match="another process listens there"):
            await holdfast.serve(svc, bind=here.url).__aenter__()
        assert await here.client.call("t.echo", "x") == "x"
    assert "s" not in os.listdir(tmp_path)


BAD = [
    "",
    "tcp://",
    "tcp://127.0.0.1",
    "tcp://127.0.0.1:x",
    "tcp://127.0.0.1:70000",
    "tcp://[::1",
    "http://a:80",
    "unix://",
    "127.0.0.1",
    "tcp://:1",
]


@pytest.mark.parametrize("text", BAD)
def test_an_address_that_does_not_parse_says_what_to_write(text: str) -> None:
    for use in (lambda: holdfast.serve(svc, bind=text), lambda: holdfast.connect(text)):
        with pytest.raises(holdfast.ConfigError) as caught:
            use()
        assert "tcp" in str(caught.value) or "unix" in str(caught.value), str(caught.value)


def test_an_address_beyond_this_machine_needs_consent() -> None:
    for use in (lambda: holdfast.serve(svc, bind="tcp://0.0.0.0:0"), lambda: holdfast.connect("tcp://192.0.2.1:7000")):
        with pytest.raises(holdfast.ConfigError, match=r"insecure=True \(or --insecure\)"):
            use()
