"""The cases that failed once, kept as tests: a small JSON file beside the scenarios.

Owns: the file's form. A case is kept with its faults and operations written out, so that it still says something when the climate is drawn
differently one day. After the mistake is mended, the case must pass, in every run, for good.

What may never happen here: a file that is half written, or one that is silently taken for empty because it cannot be read.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from ..errors import ConfigError
from .scenario import Case


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One case, and what it once showed."""

    why: str
    case: Case


class Corpus:
    """A file of failing cases, by scenario.

    Args:
        path: of the file; one that is not there is empty.
    Raises: ConfigError for a file that is not a corpus, saying where.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._kept: dict[str, list[Kept]] = {}
        if self.path.exists():
            try:
                self._kept = msgspec.json.decode(self.path.read_bytes(), type=dict[str, list[Kept]])
            except msgspec.DecodeError as error:
                raise ConfigError(f"{self.path} is not a corpus: {error}; expected what `holdfast sim --corpus` writes") from error

    def __len__(self) -> int:
        return sum(len(each) for each in self._kept.values())

    def cases(self, scenario: str) -> list[Case]:
        """The cases of one scenario, in the order they were found."""
        return [each.case for each in self._kept.get(scenario, [])]

    def why(self, scenario: str, case: Case) -> str:
        """What a case showed when it was found; empty for one that is not kept."""
        return next((each.why for each in self._kept.get(scenario, []) if each.case == case), "")

    def add(self, scenario: str, case: Case, why: str) -> bool:
        """Keep a case; whether it is new. Nothing is written before `save`."""
        if case in self.cases(scenario):
            return False
        self._kept.setdefault(scenario, []).append(Kept(why=why, case=case))
        return True

    def save(self) -> None:
        """Write the file: whole, or not at all; the same cases give the same bytes."""
        text = msgspec.json.format(msgspec.json.encode(dict(sorted(self._kept.items()))), indent=1)
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_bytes(text + b"\n")
        fresh.replace(self.path)
