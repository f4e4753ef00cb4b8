"""The client in JavaScript, written from the protocol page alone: it agrees with the page's vectors, and calls a live service."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.examples.conductor import EXAMPLES, PATIENCE_S, ROOT, serving

CLIENT = EXAMPLES / "node-client"
PAGE = ROOT / "docs" / "en" / "reference" / "protocol.md"
SCRIPTS = sorted(CLIENT.glob("*.mjs"))

pytestmark = pytest.mark.skipif(shutil.which("node") is None, reason="node is not on PATH; install Node.js 20 or newer")


def node(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a script of the client to its end."""
    return subprocess.run(["node", *map(str, words)], cwd=CLIENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


def names_on(page: Path) -> list[str]:
    [block] = re.findall(r"```text\n(preface .*?)```", page.read_text("utf-8"), re.DOTALL)
    return [line.split()[0] for line in block.splitlines()]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_it_agrees_with_every_vector_of_the_page(language: str) -> None:
    page = ROOT / "docs" / language / "reference" / "protocol.md"
    done = node("vectors.mjs", page)
    assert done.returncode == 0, done.stdout + done.stderr
    said = dict(line.replace(":", "").split()[1::-1] for line in done.stdout.splitlines())
    assert list(said) == names_on(page)
    assert [name for name, how in said.items() if how != "ok"] == ["call-extras", "ack"]


@pytest.mark.parametrize("name", ["call", "welcome", "reply-trailers", "goaway", "end-checked"])
def test_a_vector_that_says_something_else_is_found(name: str, tmp_path: Path) -> None:
    page = tmp_path / "protocol.md"
    spoiled = re.sub(rf"(?m)^({name} .*)(.)$", lambda m: m[1] + format(int(m[2], 16) ^ 1, "x"), PAGE.read_text("utf-8"), count=1)
    page.write_text(spoiled)
    done = node("vectors.mjs", page)
    assert done.returncode == 1
    assert f"FAILED {name}" in done.stdout.splitlines()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving("shop:svc") as service:
        yield service.address


def test_it_calls_a_live_service(address: str) -> None:
    assert json.loads(node("call.mjs", address, "shop.place", '{"order": {"id": "o-1", "qty": 2}}').stdout) == "receipt-o-1"
    assert json.loads(node("call.mjs", address, "shop.price", '{"sku": "A"}').stdout) == 9.9
    assert json.loads(node("call.mjs", address, "shop.report", '{"day": "today"}').stdout) == "orders of today\n"


def test_a_thousand_calls_at_once_are_answered(address: str) -> None:
    done = node("call.mjs", address, "shop.price", '{"sku": "A"}', "--times", "1000")
    assert done.stdout == "9.9\n" * 1000, done.stderr


def test_it_reads_a_stream(address: str) -> None:
    done = node("call.mjs", address, "shop.watch", '{"since": 7}', "--stream")
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == ["o-7", "o-8", "o-9"]


def test_messages_in_pieces_go_both_ways(address: str, tmp_path: Path) -> None:
    script = tmp_path / "large.mjs"
    script.write_text(f"""
        import {{ connect }} from "{(CLIENT / "holdfast.mjs").as_uri()}";
        const shop = await connect(process.argv[2]);
        const id = "x".repeat(3_000_000);
        const receipts = await Promise.all([1, 2, 3].map(() => shop.call("shop.place", {{ order: {{ id, qty: 1 }} }})));
        console.log(receipts.every((receipt) => receipt === "receipt-" + id));
        shop.close();
    """)
    assert node(script, address).stdout == "true\n"


def test_an_error_says_what_it_is(address: str) -> None:
    done = node("call.mjs", address, "shop.place", '{"order": {"id": 5}}')
    assert done.returncode == 1
    error = json.loads(done.stderr)
    assert (error["code"], error["executed"]) == ("invalid_argument", "no")
    assert json.loads(node("call.mjs", address, "shop.nothing").stderr)["code"] == "unimplemented"


def test_calls_that_are_open_when_the_server_goes_down_are_answered(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import asyncio, os, signal\n"
        "from holdfast import Service\n"
        "svc = Service('slow')\n"
        "waiting = []\n"
        "@svc.method\n"
        "async def work() -> str:\n"
        "    waiting.append(asyncio.get_running_loop().create_future())\n"
        "    if len(waiting) == 50:\n"
        f"        os.kill(os.getpid(), {int(signal.SIGTERM)})\n"
        "        asyncio.get_running_loop().call_later(0.1, lambda: [each.set_result(None) for each in waiting])\n"
        "    await waiting[-1]\n"
        "    return 'done'\n"
    )
    with serving("slow:svc", tmp_path) as service:
        done = node("call.mjs", service.address, "slow.work", "{}", "--times", "50")
    assert done.stdout == '"done"\n' * 50, done.stderr


def test_it_is_small_and_needs_nothing() -> None:
    lines = [line for script in SCRIPTS for line in script.read_text("utf-8").splitlines()]
    assert len(lines) <= 300
    assert max(map(len, lines)) <= 120
    imported = {m[1] for line in lines if (m := re.search(r'from "([^"]+)"', line))}
    assert all(name.startswith(("node:", "./")) for name in imported)
    assert not (CLIENT / "package.json").exists()
