"""One process that fuzzes one harness for some seconds: guided by coverage where atheris is installed, else by luck.

It is started by `python -m tests.fuzz run` and writes what came of it as JSON. With atheris, inputs that reach something new are left in
`.fuzz/NAME/`, and the next run begins with them.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import json
import os
import sys
import time
from hashlib import sha1
from pathlib import Path
from random import Random
from typing import Any

WORK = Path(__file__).resolve().parent.parent.parent / ".fuzz"
INPUT_MAX_BYTES = 8192
FLUSH_EVERY = 2000
WATCHED = {
    "connection": ("wire",),
    "frames": ("wire",),
    "settings": ("wire", "rpc.codes"),
    "addresses": ("net.address",),
    "codec": ("rpc.codec", "rpc.catalogue", "rpc.contract", "rpc.validation"),
    "framings": ("framing",),
    "tls": ("net.tls", "net.hello", "net.rest", "net.alerts", "net.certificate"),
}
"""The parts of the library whose coverage guides each harness; to watch all of it would make everything slower."""


def has_atheris() -> bool:
    """Whether this Python can fuzz with coverage."""
    return importlib.util.find_spec("atheris") is not None


def unwatched(name: str) -> list[str]:
    """The modules of the library that do not guide this harness."""
    found = importlib.util.find_spec("holdfast")
    assert found is not None and found.origin is not None
    root = Path(found.origin).parent
    names = [".".join(("holdfast", *path.relative_to(root).with_suffix("").parts)).removesuffix(".__init__") for path in root.rglob("*.py")]
    watched = tuple(f"holdfast.{part}" for part in WATCHED[name])
    return [each for each in names if not any(each == part or each.startswith(f"{part}.") for part in watched)]


def report(path: Path, watch: Any, started_at: float, guided: bool, kept: int) -> None:
    """Write down how far it got."""
    took_s = time.monotonic() - started_at
    summary = {
        "harness": watch.harness.name,
        "guided": guided,
        "executions": watch.executions,
        "per_second": round(watch.executions / took_s) if took_s else 0,
        "corpus": kept,
        "slowest_ms": round(watch.slowest_s * 1000, 3),
        "slowest": watch.slowest.hex(),
        "found": watch.complaints(),
    }
    path.write_text(json.dumps(summary), "utf-8")


def with_luck(name: str, seconds: float, seed: str, path: Path) -> None:
    """Fuzz without a guide."""
    from tests.fuzz import engine

    harness = engine.harness(name)
    watch = engine.Watch(harness)
    started_at = time.monotonic()
    known = engine.inputs(harness)
    for data in known:
        watch.run(data)
    engine.wander(harness, seed, lambda _: time.monotonic() - started_at > seconds, watch)
    report(path, watch, started_at, False, len(known))


def with_atheris(name: str, seconds: float, seed: str, path: Path) -> None:
    """Fuzz guided by coverage. Does not return: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["holdfast"], exclude=unwatched(name)):
        importlib.import_module(f"tests.fuzz.harnesses.{name}")
    from tests.fuzz import corpus, engine

    harness = engine.harness(name)
    watch = engine.Watch(harness, slow_above_s=10.0)  # instrumented code is slow; the slowest input is timed again without
    known = engine.inputs(harness)
    folder = WORK / name
    folder.mkdir(parents=True, exist_ok=True)
    for data in known:
        (folder / sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    corpus.FINDINGS.mkdir(exist_ok=True)
    started_at = time.monotonic()

    def one(data: bytes) -> None:
        watch.run(data)
        over = time.monotonic() - started_at > seconds
        if over or watch.executions % FLUSH_EVERY == 0:
            report(path, watch, started_at, True, sum(1 for _ in folder.iterdir()))
        if over:
            atexit._run_exitfuncs()  # libFuzzer's own end leaves temporary folders behind
            sys.stdout.flush()
            os._exit(0)

    def mutate(data: bytes, max_size: int, number: int) -> bytes:
        random = Random(number)
        if random.random() < 0.3:
            return bytes(atheris.Mutate(data, max_size))
        return harness.mutate(data, random, known)[:max_size]

    options = [
        "-max_len=8192",
        "-timeout=20",
        "-rss_limit_mb=2048",
        "-verbosity=0",
        f"-seed={int(sha1(seed.encode()).hexdigest()[:7], 16)}",
    ]
    arguments = [name, *options, f"-artifact_prefix={corpus.FINDINGS}/{name}-", str(folder)]
    atheris.Setup(arguments, one, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    name, seconds, seed, target, how = sys.argv[1:]
    run = with_atheris if how == "guided" else with_luck
    run(name, float(seconds), seed, Path(target))
