"""Mutants as patches: reading them, and putting one into a copy of the sources.

Owns: what a patch of ours may look like. Its first lines say in a sentence what the mistake breaks; then comes one unified diff of one file
of `src/holdfast`, as `git diff` writes it.
What may never happen here: a patch that is put somewhere near the place it was made for. Its lines stand in the file exactly once, or it
does not apply.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]
PATCHES = Path(__file__).with_name("patches")
CHANGED_LINES_MAX = 5
"""A line that is changed is one, though a diff shows it twice."""

_HUNK = re.compile(r"@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@")


class DoesNotApply(Exception):
    """The sources have changed where a patch wants to change them: make the mutant anew, by hand, or take it out."""


@dataclass(frozen=True)
class Mutant:
    """One patch.

    Attributes:
        story: what is broken, a sentence.
        file: what it changes, from the root of the repository.
        hunks: lines that must be there, and what stands there afterwards.
    """

    name: str
    story: str
    file: str
    hunks: tuple[tuple[str, str], ...]
    changed_lines: int

    @property
    def campaign(self) -> str:
        """Which campaign has to find it: the `fleet`, for one whose name begins so, else the `spine`."""
        return "fleet" if self.name.startswith("fleet_") else "spine"

    def mutate(self, source: str) -> str:
        """Return the file with the mistake in it. Raises: DoesNotApply."""
        for old, new in self.hunks:
            if source.count(old) != 1:
                raise DoesNotApply(f"{self.name}.patch: its lines stand {source.count(old)} times in {self.file}, expected once:\n{old}")
            source = source.replace(old, new)
        return source


def read(path: Path) -> Mutant:
    """Read a patch. Raises: ValueError that says what it should look like."""
    head, mark, diff = path.read_text("utf-8").partition("--- a/")
    lines = (mark + diff).splitlines(keepends=True)
    if not head.strip() or len(lines) < 3 or not lines[1].startswith("+++ b/src/holdfast/"):
        raise ValueError(f"{path.name}: expected a sentence, an empty line, and a diff of one file of src/holdfast")
    hunks: list[tuple[list[str], list[str]]] = []
    added = removed = 0
    for line in lines[2:]:
        if _HUNK.match(line):
            hunks.append(([], []))
            continue
        kind, text = line[0], line[1:]
        if kind not in " +-" or not hunks or line.startswith(("--- ", "+++ ")):
            raise ValueError(f"{path.name}: a line that belongs to no hunk of the one file: {line!r}")
        added += kind == "+"
        removed += kind == "-"
        if kind in " -":
            hunks[-1][0].append(text)
        if kind in " +":
            hunks[-1][1].append(text)
    pairs = tuple(("".join(old), "".join(new)) for old, new in hunks)
    return Mutant(path.stem, " ".join(head.split()), lines[1].removeprefix("+++ b/").strip(), pairs, max(added, removed))


def all_mutants() -> dict[str, Mutant]:
    """Return every mutant by its name, in the order of their names."""
    return {path.stem: read(path) for path in sorted(PATCHES.glob("*.patch"))}
