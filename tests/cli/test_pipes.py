"""Blocking descriptors beside a loop: bounded, in order, and never in the way of the end."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from holdfast.cli.pipes import BlockingThread, Sink, chunks, lines, open_source, read_whole
from holdfast.errors import InvalidArgument


async def test_chunks_of_a_file_are_its_bytes(tmp_path: Path) -> None:
    content = os.urandom(200_000)
    (tmp_path / "f").write_bytes(content)
    descriptor = open_source(str(tmp_path / "f"))
    parts = [part async for part in chunks(descriptor)]
    os.close(descriptor)
    assert b"".join(parts) == content
    assert max(map(len, parts)) <= 65_536


async def test_a_pipe_is_read_as_it_is_written() -> None:
    reading, writing = os.pipe()
    async with aclosing(chunks(reading)) as parts:
        os.write(writing, b"one")
        assert await anext(parts) == b"one"
        os.write(writing, b"two")
        assert await anext(parts) == b"two"
        os.close(writing)
        with pytest.raises(StopAsyncIteration):
            await anext(parts)
    os.close(reading)


async def test_lines_are_cut_anywhere_and_put_together() -> None:
    reading, writing = os.pipe()

    async def collect() -> list[bytes]:
        return [line async for line in lines(reading, 100)]

    os.write(writing, b"one\n\n  \ntw")
    async with asyncio.TaskGroup() as group:
        collected = group.create_task(collect())
        await asyncio.sleep(0)
        os.write(writing, b"o\r\nthree")
        os.close(writing)
    os.close(reading)
    assert [line.strip() for line in collected.result()] == [b"one", b"two", b"three"]


async def test_a_line_without_end_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"short\n" + b"x" * 1_000)
    descriptor = open_source(str(tmp_path / "f"))
    with pytest.raises(InvalidArgument, match="line 2 of the input is longer than 100 bytes"):
        _ = [line async for line in lines(descriptor, 100)]
    os.close(descriptor)


async def test_a_read_that_waits_can_be_cancelled() -> None:
    reading, writing = os.pipe()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), aclosing(chunks(reading)) as parts:
            await anext(parts)
    os.close(writing)


def test_a_process_ends_while_its_standard_input_stays_open() -> None:
    code = (
        "import asyncio\nfrom holdfast.cli.pipes import chunks\n"
        "async def main():\n"
        "    try:\n        async with asyncio.timeout(0.05):\n            await anext(chunks(0))\n"
        "    except TimeoutError:\n        print('timeout')\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.wait(timeout=20) == 0
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read() == b"timeout\n"
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.communicate()


def test_reading_a_whole_file_is_bounded(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"x" * 1_001)
    assert read_whole(str(tmp_path / "f"), 1_001) == b"x" * 1_001
    with pytest.raises(InvalidArgument, match="larger than 1,000 bytes; send it through a method that takes a stream"):
        read_whole(str(tmp_path / "f"), 1_000)


@pytest.mark.parametrize(("name", "message"), [("nope", "No such file"), (".", "it is a directory")])
def test_a_source_that_cannot_be_read(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        open_source(str(tmp_path / name))


async def test_a_sink_writes_everything_in_order_to_a_slow_reader_and_the_loop_goes_on() -> None:
    reading, writing = os.pipe()
    sink = Sink(writing)
    data = [os.urandom(n) for n in (10, 300_000, 5_000, 1)]
    received = bytearray()
    reader = BlockingThread("test-reader")

    async def write() -> None:
        for part in data:
            await sink.write(part)
        os.close(writing)

    async with asyncio.TaskGroup() as group:
        writer = group.create_task(write())
        while not writer.done() or len(received) < sum(map(len, data)):
            received += await reader.run(lambda: os.read(reading, 4_096))
    os.close(reading)
    assert bytes(received) == b"".join(data)


async def test_a_sink_into_a_file_and_into_a_reader_that_left(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    await Sink(descriptor).write(b"x" * 100_000)
    os.close(descriptor)
    assert (tmp_path / "out").stat().st_size == 100_000
    reading, writing = os.pipe()
    os.close(reading)
    for size in (1, 100_000):
        with pytest.raises(BrokenPipeError):
            await Sink(writing).write(b"x" * size)
    os.close(writing)
