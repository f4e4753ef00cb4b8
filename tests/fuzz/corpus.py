"""Inputs worth keeping: one file for each harness, one input a line, so that a change of the corpus can be read as a change of lines.

corpus/NAME.txt        what reaches every part of the code; made by `python -m tests.fuzz pack`
regressions/NAME.txt   inputs that found something once, each with a comment that says what; written by hand, never dropped
findings/              where a run leaves what it found; not kept
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

HERE = Path(__file__).resolve().parent
FINDINGS = HERE / "findings"


def load(name: str) -> list[bytes]:
    """The corpus of a harness, regressions first."""
    return [*read(HERE / "regressions" / f"{name}.txt"), *read(HERE / "corpus" / f"{name}.txt")]


def read(path: Path) -> list[bytes]:
    """The inputs of one file; none when it is not there."""
    if not path.exists():
        return []
    lines = path.read_text("ascii").splitlines()
    return [base64.b64decode(line) for line in lines if line and not line.startswith("#")]


def in_order(inputs: Iterable[bytes]) -> list[bytes]:
    """Each input once, the shortest first: equal corpora are equal files."""
    return sorted(frozenset(inputs), key=lambda each: (len(each), each))


def save(name: str, inputs: Iterable[bytes]) -> Path:
    """Write the corpus of a harness."""
    path = HERE / "corpus" / f"{name}.txt"
    path.parent.mkdir(exist_ok=True)
    lines = [base64.b64encode(data).decode() for data in in_order(inputs)]
    path.write_text("".join(f"{line}\n" for line in lines), "ascii")
    return path


def keep_finding(name: str, data: bytes) -> Path:
    """Write down an input that found something; return where."""
    FINDINGS.mkdir(parents=True, exist_ok=True)
    path = FINDINGS / f"{name}-{blake2b(data, digest_size=6).hexdigest()}"
    path.write_bytes(data)
    return path


def how_to_repeat(name: str, path: Path) -> str:
    """The command that runs a finding again."""
    return f"python -m tests.fuzz repeat {name} {path.relative_to(HERE.parent.parent)}"
