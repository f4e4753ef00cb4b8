"""A copy of the repository in which one mistake at a time is made, and what notices it.

Owns: the copy, the processes that test it, and what they found. What may never happen here: a test of anything but the copy (`proof.py`);
a mistake left in it when the next one is made; a seed recorded at which the package fails without the mistake, too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .patching import REPOSITORY, Mutant

COPIED = ("src", "tests", "docs", "examples", "bench", "scripts", "changes", "requirements")
LIKELY = ["policy", "control", "balance", "calling", "rpc", "wire", "faults", "test_client.py", "test_server.py", "test_tasks.py"]
"""Tests that notice most mistakes; they are asked first, because all of them take minutes."""

UNITS_S = 900.0
WORLD_S = 30.0
SLICE = 1_000_000
"""Seeds of different slices have nothing in common."""


@dataclass(frozen=True)
class Caught:
    """A world that failed for the mistake alone."""

    invariant: str
    seed: int
    worlds: int
    message: str


class Workshop:
    """The copy. Make it with `workshop`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._env = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(folder / "src"), str(folder)]),
            "HOLDFAST_MUTANT": str(folder),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._bad_seeds: dict[tuple[str, int], bool] = {}

    @contextmanager
    def mistake(self, mutant: Mutant) -> Iterator[None]:
        """Inside, the copy has the mistake. Raises: DoesNotApply."""
        path = self.folder / mutant.file
        sound = path.read_text("utf-8")
        path.write_text(mutant.mutate(sound), "utf-8")
        try:
            yield
        finally:
            path.write_text(sound, "utf-8")

    def simulate(self, mutant: Mutant, first: int, seeds: int) -> Caught | None:
        """Run worlds until one fails that is sound without the mistake; None when none does."""
        seed, end = first, first + seeds
        while seed < end:
            with self.mistake(mutant):
                failure = self.campaign(seed, end - seed, mutant.campaign)
            if failure is None:
                return None
            seed = failure["seed"]
            if self.is_sound(seed, mutant.campaign):
                return Caught(failure["invariant"], seed, seed - first + 1, failure["message"])
            seed += 1
        return None

    def is_sound(self, seed: int, campaign: str = "spine") -> bool:
        """Whether the world of that seed passes without a mistake."""
        if (campaign, seed) not in self._bad_seeds:
            self._bad_seeds[campaign, seed] = self.campaign(seed, 1, campaign) is not None
        return not self._bad_seeds[campaign, seed]

    def campaign(self, first: int, seeds: int, campaign: str = "spine") -> dict[str, Any] | None:
        """Run the campaign over the copy; return its first failure."""
        command = [sys.executable, "-m", "tests.sim.mutants.proof", "--seeds", str(seeds), "--first", str(first), "--json"]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env={**self._env, "HOLDFAST_CAMPAIGN": campaign},
            capture_output=True,
            text=True,
            check=False,
            timeout=60.0 + seeds * WORLD_S,
        )
        try:
            report = json.loads(done.stdout)
        except ValueError:
            raise RuntimeError(
                f"the campaign gave no report, exit code {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
            ) from None
        failures: list[dict[str, Any]] = report["failures"]
        return failures[0] if failures else None

    def units(self, mutant: Mutant) -> str | None:
        """Run the quick tests but for those of the simulator; return the first that fails, None when all are green."""
        with self.mistake(mutant):
            return self.tests([f"tests/{each}" for each in LIKELY]) or self.tests(["tests", "--ignore=tests/sim"])

    def tests(self, what: list[str]) -> str | None:
        """Run tests over the copy; return the first that fails."""
        command = [sys.executable, "-m", "pytest", "-p", "tests.sim.mutants.proof", "-p", "no:cacheprovider"]
        command += ["-q", "-x", "-n", "auto", "-m", "not slow", *what]
        try:
            done = subprocess.run(command, cwd=self.folder, env=self._env, capture_output=True, text=True, check=False, timeout=UNITS_S)
        except subprocess.TimeoutExpired:
            return f"they did not end within {UNITS_S:g} s"
        if done.returncode == 0:
            return None
        failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        if not failed:
            return f"pytest ended with {done.returncode}: {(done.stdout + done.stderr).strip().splitlines()[-1]}"
        return failed[0].split(" ", 1)[1].split(" - ")[0]


@contextmanager
def workshop() -> Iterator[Workshop]:
    """Copy what is needed to run the tests; the copy is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="holdfast-mutants-") as name:
        folder = Path(name).resolve()
        for each in COPIED:
            shutil.copytree(REPOSITORY / each, folder / each, ignore=shutil.ignore_patterns("__pycache__", ".fuzz", "findings"))
        for path in REPOSITORY.iterdir():
            if path.is_file() and not path.name.startswith(".git"):
                shutil.copy2(path, folder / path.name)
        yield Workshop(folder)
