"""How tests run here.

Owns three things: `async def test_*` functions run without a plugin, on uvloop, or on asyncio and uvloop when marked `both_loops`; a test
that leaves a task, an unhandled loop error or an unclosed transport behind fails; a skipped test is a failure under CI=true, with
its reason, because a skip nobody sees is a promise nobody checks.
What may never happen here: waiting. Leftovers get loop turns to go away, not time.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import os
import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import uvloop

SETTLE_TURNS = 50
"""Loop turns a test's leftovers have to finish in. Closing a transport takes two or three."""

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a script: the programs of tests would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}

REPOSITORY = Path(__file__).resolve().parent.parent

# Tests that start a process need the package there too, whether or not it is installed.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY / "src"), os.environ.get("PYTHONPATH")]))

# Examples are the same in every run unless somebody asks for more of them (`make fuzz`): a failure must repeat.
EXAMPLES = os.environ.get("HOLDFAST_FUZZ_EXAMPLES")
hypothesis.settings.register_profile("repeat", deadline=None, derandomize=True, database=None, max_examples=50)
hypothesis.settings.register_profile("fuzz", deadline=None, print_blob=True, database=None, max_examples=int(EXAMPLES or 1))
hypothesis.settings.load_profile("fuzz" if EXAMPLES else "repeat")


# ------------------------------------------------------------------------------------------------------------ async tests


@pytest.fixture
def loop_name(request: pytest.FixtureRequest) -> str:
    """The loop an async test runs on; a test that asks for it may use it in messages."""
    return str(getattr(request, "param", "uvloop"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every async test its loops."""
    if not inspect.iscoroutinefunction(metafunc.function):
        return
    names = ["asyncio", "uvloop"] if metafunc.definition.get_closest_marker("both_loops") else ["uvloop"]
    if "loop_name" not in metafunc.fixturenames:
        metafunc.fixturenames.append("loop_name")
    metafunc.parametrize("loop_name", names, indirect=True)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an async test to its end on its loop, and look at what it left."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    # Not from funcargs: pytest drops a fixture there that the test does not name.
    run_async(LOOPS[pyfuncitem.callspec.params["loop_name"]], lambda: pyfuncitem.obj(**arguments))
    return True


def run_async(make_loop: Callable[[], asyncio.AbstractEventLoop], test: Callable[[], Any]) -> None:
    """Run `test` on a new loop; fail on leaked tasks, on errors nobody handled, and on transports left open."""
    unhandled: list[dict[str, Any]] = []

    async def watched() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: unhandled.append(context))
        await test()
        leaked = await _leaked_tasks()
        assert not leaked, "the test left tasks behind:\n" + "\n".join(f"  {task!r}" for task in leaked)

    with asyncio.Runner(loop_factory=make_loop) as runner:
        runner.run(watched())
    # An unclosed transport or socket says so when it is collected; `filterwarnings = error` makes that a failure.
    gc.collect()
    assert not unhandled, "errors reached the loop that nobody handled:\n" + "\n".join(f"  {context!r}" for context in unhandled)


async def _leaked_tasks() -> list[asyncio.Task[Any]]:
    """Tasks other than ours that are still there after a bounded number of loop turns."""
    for _ in range(SETTLE_TURNS):
        left = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        if not left:
            return []
        await asyncio.sleep(0)
    return left


def pytest_collection_finish() -> None:
    """Put what exists by now out of the collector's sight: the collection after each async test then costs next to nothing."""
    gc.collect()
    gc.freeze()


_tests = itertools.count(1)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What earlier tests left for good (reports, caches, late imports) grows to a hundred thousand objects: 70 ms a collection.

    Before any test, not async ones alone: some collect a hundred times.
    """
    if next(_tests) % 20 == 0:
        gc.collect()
        gc.freeze()


# ------------------------------------------------------------------------------------------------------------------ skips


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs rights we do not have."""
    if os.geteuid() == 0:
        return
    for item in items:
        if item.get_closest_marker("needs_root"):
            item.add_marker(pytest.mark.skip(reason="needs the rights of root; run as root, or let CI do it"))


def _fail_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: skipped under CI=true, where everything must run. {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Under CI=true a skip is a failure that lists why; elsewhere `-ra` lists it at the end of the run."""
    report = yield
    _fail_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a whole file that skips itself."""
    report = yield
    _fail_if_skipped(report)
    return report
