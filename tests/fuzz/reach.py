"""Which part of the code an input reaches, to keep only inputs that add something.

Owns: the choice of the corpus. It is made with the interpreter's own trace, so it needs no tool; it takes minutes and is done by hand, with
`python -m tests.fuzz pack`, after a long run.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import holdfast
from tests.fuzz import corpus, engine
from tests.fuzz.worker import WORK

SOURCE = holdfast.__file__.rpartition("/")[0]
INPUTS_MAX = 400
"""No harness keeps more: the whole corpus is run with every change."""

Step = tuple[str, int, int]


def steps(one: Callable[[bytes], None], data: bytes) -> dict[Step, int]:
    """How often the library went from which line to which under this input."""
    found: dict[Step, int] = {}
    last: dict[int, int] = {}

    def line(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line":
            key = id(frame)
            step = (frame.f_code.co_filename, last.get(key, 0), frame.f_lineno)
            found[step] = found.get(step, 0) + 1
            last[key] = frame.f_lineno
        elif event == "return":
            last.pop(id(frame), None)
        return line

    def call(frame: FrameType, event: str, _: Any) -> Any:
        return line if frame.f_code.co_filename.startswith(SOURCE) else None

    sys.settrace(call)
    try:
        one(data)
    except Exception:  # a finding has no place in the corpus; runs report it
        return {}
    finally:
        sys.settrace(None)
    return found


def features(found: dict[Step, int]) -> frozenset[tuple[Step, int]]:
    """Each step, with whether it came once, a few times or often."""
    return frozenset((step, 0 if count == 1 else 1 if count < 4 else 2 if count < 16 else 3) for step, count in found.items())


def pack(name: str) -> str:
    """Write the corpus of a harness anew: what reaches more than its seeds do, short inputs first."""
    harness = engine.harness(name)
    seen: dict[tuple[Step, int], None] = {}
    for data in harness.seeds():
        seen.update(dict.fromkeys(features(steps(harness.one, data))))
    inputs = corpus.load(name)
    folder = WORK / name
    if folder.exists():
        inputs += [path.read_bytes() for path in folder.iterdir() if path.is_file()]
    kept: list[bytes] = []
    for data in corpus.in_order(inputs):
        new = [each for each in features(steps(harness.one, data)) if each not in seen]
        if new:
            seen.update(dict.fromkeys(new))
            kept.append(data)
    reached = len(frozenset(step for step, _ in seen))
    path = corpus.save(name, kept[:INPUTS_MAX])
    return f"{len(inputs)} inputs, {len(kept)} kept, {reached} steps from line to line, {path.stat().st_size} bytes"
