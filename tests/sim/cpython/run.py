"""`python -m tests.sim.cpython.run MODULE`: one of CPython's own test modules, with simulated loops; the last line is JSON.

Owns how such a module is run: every loop its tests ask asyncio for is simulated, and the servers they run in threads are processes of
the same simulated world. The tests themselves are CPython's, unchanged. What may never happen here: a test that passes on a real loop.
"""

from __future__ import annotations

import argparse
import gc
import io
import json
import sys
import unittest
from typing import Any

from tests.sim.cpython.loops import simulated


class Outcomes(unittest.TextTestResult):
    """Each test's outcome by its name within the module, and the last words of those that failed."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.outcomes: dict[str, str] = {}
        self.words: dict[str, str] = {}

    def startTest(self, test: unittest.TestCase) -> None:
        if "resource_warning" in test.id():
            gc.collect()  # the simulation has switched it off, and these tests count what one collection finds
        super().startTest(test)

    def _say(self, test: unittest.TestCase, outcome: str, words: str = "") -> None:
        name = ".".join(test.id().split(".")[-2:])
        self.outcomes[name] = outcome
        if words:
            self.words[name] = words

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._say(test, "passed")

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._say(test, "failed", self.failures[-1][1])

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._say(test, "failed", self.errors[-1][1])

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._say(test, "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addExpectedFailure(test, err)
        self._say(test, "passed")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._say(test, "failed", str(err[1]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.cpython.run")
    parser.add_argument("module")
    parser.add_argument("-k", action="append", help="parts of names, as unittest has it")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    name = f"test.test_asyncio.{options.module}"
    loader = unittest.TestLoader()
    if options.k:
        loader.testNamePatterns = [f"*{word}*" for word in options.k]
    text = io.StringIO()
    suite = loader.loadTestsFromName(name)
    with simulated(options.seed) as maker:
        result = unittest.TextTestRunner(stream=text, resultclass=Outcomes, verbosity=2 if options.k else 1).run(suite)
        made = next(maker.made)
    assert isinstance(result, Outcomes)
    if options.k:
        print(text.getvalue(), file=sys.stderr)
    print(json.dumps({"loops": made, "ran": result.testsRun, "outcomes": result.outcomes, "words": result.words}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
