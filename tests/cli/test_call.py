"""`holdfast call` against a real server: every shape, both directions of bytes, and every way to fail."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import PATIENCE_S, holdfast, one_line, running, serving, started

pytestmark = pytest.mark.slow  # a process per case


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with serving() as (_, where):
        yield where


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["shop.place", "order.id=o-1", "order.qty=2"], b'"receipt-o-1-2"\n'),
        (["shop.place", 'order:={"id":"o-1","qty":2}'], b'"receipt-o-1-2"\n'),
        (["shop.place", "order.id=2", "order.qty=2", "--raw"], b"receipt-2-2\n"),
        (["shop.price", "sku=A"], b"9.5\n"),
        (["shop.price", "sku=A", "count=2", "--json"], b"19.0\n"),
        (["shop.watch", "since=5"], b'{"id":"o-5","qty":5}\n{"id":"o-6","qty":6}\n{"id":"o-7","qty":7}\n'),
        (["shop.report", "day=x"], b"\x00\xff\nx"),
        (["shop.report", "day=x", "-o", "-"], b"\x00\xff\nx"),
        (["shop.report", "day=x", "--json"], json.dumps(base64.b64encode(b"\x00\xff\nx").decode()).encode() + b"\n"),
        (["shop.who", "-H", "a=1", "-H", "b=x=y", "--json"], b'{"a":"1","b":"x=y"}\n'),
    ],
)
def test_a_call_prints_its_result(address: str, words: list[str], out: bytes) -> None:
    done = holdfast("call", address, *words)
    assert (done.returncode, done.stdout, done.stderr) == (0, out, b"")


def test_a_whole_object_from_standard_input_or_a_file(address: str, tmp_path: Path) -> None:
    body = b'{"order": {"id": "o-9", "qty": 1}}'
    (tmp_path / "order.json").write_bytes(body)
    assert holdfast("call", address, "shop.place", "-", stdin=body).stdout == b'"receipt-o-9-1"\n'
    assert holdfast("call", address, "shop.place", "@order.json", cwd=tmp_path).stdout == b'"receipt-o-9-1"\n'
    assert holdfast("call", address, "shop.place", "@order.json", "order.qty=3", cwd=tmp_path).stdout == b'"receipt-o-9-3"\n'


def test_a_stream_of_bytes_goes_in_from_a_file_and_from_standard_input(address: str, tmp_path: Path) -> None:
    content = os.urandom(300_001)
    (tmp_path / "a.bin").write_bytes(content)
    done = holdfast("call", address, "shop.upload", "name=a", f"@{tmp_path}/a.bin", "--json")
    assert (done.stdout, done.returncode) == (b'{"a":300001}\n', 0)
    assert holdfast("call", address, "shop.upload", "name=a", "-", stdin=content).stdout == b'{"a":300001}\n'
    assert holdfast("call", address, "shop.upload", "name=a", "-").stdout == b'{"a":0}\n'


def test_bytes_come_back_as_they_went(address: str, tmp_path: Path) -> None:
    content = bytes(range(256)) * 2_000
    done = holdfast("call", address, "shop.echo", "-", stdin=content)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == content
    done = holdfast("call", address, "shop.echo", "-", "-o", "copy.bin", stdin=content, cwd=tmp_path)
    assert done.stdout == b""
    assert (tmp_path / "copy.bin").read_bytes() == content


def test_json_lines_go_in_and_out(address: str) -> None:
    done = holdfast("call", address, "shop.double", "-", stdin=b'{"id":"a","qty":1}\n\n{"id":"b","qty":2}')
    assert done.stdout == b'{"id":"a","qty":2}\n{"id":"b","qty":4}\n'


def test_items_are_printed_as_they_come(address: str) -> None:
    with running("call", address, "shop.double", "-") as process:
        assert process.process.stdin is not None
        for n in range(3):
            process.process.stdin.write(json.dumps({"id": str(n), "qty": n}).encode() + b"\n")
            process.process.stdin.flush()
            assert json.loads(process.out.until(f'"id":"{n}"'))["qty"] == 2 * n
        process.process.stdin.close()
        assert process.code() == 0


def test_a_bad_item_names_itself_and_is_usage(address: str) -> None:
    done = holdfast("call", address, "shop.double", "-", stdin=b'{"id":"a","qty":1}\n{"id":')
    assert done.returncode == 2
    assert "item 2 of orders: expected JSON" in one_line(done)


def test_without_a_method_it_lists_signatures(address: str) -> None:
    done = holdfast("call", address)
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 12
    assert any(line.startswith("shop.place(order: Order) -> str") and line.endswith("Place an order.") for line in lines)
    assert any(line.startswith("shop.price(") and "idempotent" in line for line in lines)
    methods = json.loads(holdfast("call", address, "--json").stdout)
    assert [m["name"] for m in methods] == sorted(line.partition("(")[0] for line in lines)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["shop.plac"], 2, "unimplemented: "),
        (["shop.plac"], 2, "did you mean shop.place"),
        (["zzz"], 2, "lists what it has"),
        (["shop.place"], 2, "needs order; write order="),
        (["shop.place", "order.id=1", "order.qty=x"], 2, "order.qty: expected integer, got 'x'"),
        (["shop.place", "order.id=1"], 2, "invalid_argument: "),
        (["shop.place", "ordr.id=1"], 2, "did you mean 'order'?"),
        (["shop.upload", "name=a"], 2, "takes a stream of chunks; add @file or -"),
        (["shop.upload", "name=a", "@no/such/file"], 2, "cannot read no/such/file: No such file"),
        (["shop.refuse", "why=sold out"], 1, "aborted: sold out"),
        (["shop.crash"], 1, "internal: "),
        (["shop.sleep", "--deadline", "50ms"], 1, "deadline_exceeded: "),
    ],
)
def test_failures_are_one_line_with_the_code(address: str, words: list[str], code: int, message: str) -> None:
    done = holdfast("call", address, *words)
    assert done.returncode == code
    assert message in one_line(done)
    assert done.stdout == b""


def test_with_json_the_error_is_on_stdout_too(address: str) -> None:
    done = holdfast("call", address, "shop.refuse", "why=sold out", "--json")
    assert done.returncode == 1
    error = json.loads(done.stdout)["error"]
    assert (error["code"], error["message"], error["executed"], error["details"]) == ("aborted", "sold out", "yes", {"left": 0})
    assert "aborted: sold out" in one_line(done)


@pytest.mark.parametrize("words", [["shop.place", "order.id=1"], []])
def test_nobody_there_is_exit_3(words: list[str]) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        done = holdfast("call", f"tcp://127.0.0.1:{unused.getsockname()[1]}", *words, "--deadline", "2s", "--json")
    assert done.returncode == 3
    assert "unavailable: " in one_line(done)
    assert json.loads(done.stdout)["error"]["executed"] == "no"


def test_somebody_who_never_answers_is_exit_3() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        done = holdfast("call", f"tcp://127.0.0.1:{silent.getsockname()[1]}", "--deadline", "200ms")
    assert done.returncode == 3
    assert "unavailable: " in one_line(done)


@pytest.mark.parametrize("where", ["nonsense://x", "tcp://127.0.0.1", "10.0.0.1:7000"])
def test_an_address_that_does_not_parse_or_is_not_safe_is_usage(where: str) -> None:
    done = holdfast("call", where, "shop.place")
    assert done.returncode == 2
    assert one_line(done)


def test_ctrl_c_ends_quietly_with_130_and_cancels_the_call() -> None:
    with serving() as (server, where), running("call", where, "shop.sleep", "--deadline", "10m") as caller:
        server.err.until("sleeping")
        caller.tell(signal.SIGINT)
        assert caller.code() == 130
        assert caller.err.rest() == []
        server.err.until("cancelled")


def test_ctrl_c_while_standard_input_is_silent(address: str) -> None:
    with running("call", address, "shop.echo", "-") as caller:
        assert caller.process.stdin is not None
        caller.process.stdin.write(b"x\n")
        caller.process.stdin.flush()
        caller.out.until("x")
        caller.tell(signal.SIGINT)
        assert caller.code() == 130
        assert "Traceback" not in "\n".join(caller.err.rest())


def test_a_reader_that_leaves_ends_the_call_quietly(address: str) -> None:
    reading, writing = os.pipe()
    with started(["call", address, "shop.forever"], stdout=writing, stdin=subprocess.DEVNULL) as process:
        os.close(writing)
        assert os.read(reading, 100).startswith(b"0\n")
        os.close(reading)
        _, said = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, said) == (1, b"")


def test_the_last_line_says_how_long_it_took_here_and_there(address: str) -> None:
    done = holdfast("call", address, "shop.price", "sku=A", "-v")
    assert done.stdout == b"9.5\n"
    last = done.stderr.decode().splitlines()[-1]
    assert re.fullmatch(r"ok in \S+ \(at the server: waited \S+, ran \S+; its load is \d+%\)", last)


def test_a_trace_goes_to_stderr_and_leaves_stdout_alone(address: str) -> None:
    done = holdfast("call", address, "shop.price", "sku=A", "--trace")
    assert (done.returncode, done.stdout) == (0, b"9.5\n")
    said = done.stderr.decode().splitlines()
    assert re.fullmatch(r"shop\.price: ok after [\d.]+ ms, 1 attempt, deadline [\d,.]+ ms", said[0])
    assert f"#1 pick {address}: the only one that takes calls" in said[1]
    assert "#1 sent, deadline left" in said[2]
    assert "at the server: waited" in said[3]
    assert "#1 answered" in said[4]


def test_with_json_the_trace_is_one_object_on_stderr(address: str) -> None:
    done = holdfast("call", address, "shop.upload", "name=a", "-", "--trace", "--json", stdin=b"xyz")
    assert (done.returncode, done.stdout) == (0, b'{"a":3}\n')
    (record,) = [json.loads(line)["trace"] for line in done.stderr.splitlines()]
    assert (record["method"], record["code"], record["hops"]) == ("shop.upload", "ok", [])
    (attempt,) = record["attempts"]
    assert (attempt["node"], attempt["outcome"]) == (address, "ok")
    assert attempt["sent_s"] <= attempt["ended_s"] <= record["duration_s"]


def test_a_call_that_fails_is_traced_and_then_told_as_ever(address: str) -> None:
    done = holdfast("call", address, "shop.refuse", "why=sold out", "--trace")
    assert (done.returncode, done.stdout) == (1, b"")
    *trace, last = done.stderr.decode().splitlines()
    assert last == "holdfast: aborted: sold out"
    assert trace[0].startswith("shop.refuse: aborted after")
    assert any(line.endswith("#1 failed: aborted, executed: sold out") for line in trace)
    assert any("not tried again: trying again would not help with this error" in line for line in trace)
    as_json = holdfast("call", address, "shop.sleep", "--deadline", "50ms", "--trace", "--json")
    assert json.loads(as_json.stdout)["error"]["code"] == "deadline_exceeded"
    assert json.loads(as_json.stderr.splitlines()[0])["trace"]["code"] == "deadline_exceeded"


def test_a_call_over_two_nodes_of_which_one_is_down_says_which_it_took(address: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        down = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        done = holdfast("call", f"{down},{address}", "shop.price", "sku=A", "--trace")
    assert done.returncode == 0
    assert f"#1 pick {address}" in done.stderr.decode()


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["shop.watch", "since=5"], "no trace: shop.watch answers with a stream, of which no record is kept"),
        (["shop.place", "ordr.id=1"], "no trace: no call was made"),
    ],
)
def test_without_a_record_it_says_why(address: str, words: list[str], why: str) -> None:
    done = holdfast("call", address, *words, "--trace")
    assert done.stderr.decode().splitlines()[0] == why
    done = holdfast("call", address, *words, "--trace", "--json")
    assert json.loads(done.stderr.splitlines()[0]) == {"trace": None, "why": why.removeprefix("no trace: ")}


def test_when_nobody_is_there_the_trace_says_where_to_look() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        where = f"tcp://127.0.0.1:{unused.getsockname()[1]}"
        done = holdfast("call", where, "shop.place", "--trace", "--deadline", "2s")
    assert done.returncode == 3
    told, last = done.stderr.decode().splitlines()
    assert told == f"no trace: no call was made; `holdfast check --stack {where} --connect` shows how the nodes are"
    assert last.startswith("holdfast: unavailable: ")
