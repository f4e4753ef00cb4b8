"""The rules of the house, on the tree, and each rule seen to fire on a line that breaks it."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contracts import house

# A file or function that must be longer than the budget, and why. At most one hard file per package.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {
    "calling/path.py:unary": "the way of nearly all calls, written out: a function for each part would cost more than what is in it",
}

# Files whose test stands elsewhere, or that have nothing to test on their own.
TESTED_ELSEWHERE: dict[str, str] = {
    "__main__.py": "tests/cli/test_main.py",
}


@pytest.mark.parametrize("path", house.source_files(), ids=house.name_of)
def test_a_file_uses_nothing_the_library_may_not_use(path: Path) -> None:
    assert list(house.forbidden_uses(house.parse(path), house.name_of(path))) == []


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("loop.create_task(work())", "bare task"),
        ("asyncio.ensure_future(work())", "bare task"),
        ("await asyncio.wait_for(work(), 1)", "wait_for"),
        ("from asyncio import wait_for", "asyncio streams"),
        ("now = time.time()", "time.time"),
        ("from time import time", "time.time"),
        ("asyncio.open_connection(host, port)", "asyncio streams"),
        ("await loop.create_server(factory)", "accept loop"),
        ("transport.writelines(chunks)", "writelines"),
        ("await server.wait_closed()", "wait_closed"),
        ("for each in {1, 2}: pass", "set order"),
        ("[each for each in set(names)]", "set order"),
        ("waiting = set()\nfor each in waiting: pass", "set order"),
        ("self.waiting: set[int] = field()\nlist(self.waiting)", "set order"),
    ],
)
def test_each_rule_fires(line: str, rule: str) -> None:
    complaints = list(house.forbidden_uses(ast.parse(line), "net/tcp.py"))
    assert [complaint.split(":")[0] for complaint in complaints] == [rule]


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("loop.create_task(work())", "tasks.py"),
        ("now = self._clock.now()", "net/tcp.py"),
        ("waiting = set()\nfor each in sorted(waiting): pass", "net/tcp.py"),
        ("async with asyncio.timeout(1): pass", "net/tcp.py"),
        ("await server.wait_closed()", "cli/serve.py"),
    ],
)
def test_what_is_allowed_is_allowed(line: str, file: str) -> None:
    assert list(house.forbidden_uses(ast.parse(line), file)) == []


@pytest.mark.parametrize("path", house.source_files(), ids=house.name_of)
def test_a_file_opens_with_a_docstring(path: Path) -> None:
    assert ast.get_docstring(house.parse(path)), f"{house.name_of(path)} must open by saying what it owns and what may never happen there"


@pytest.mark.parametrize("path", house.source_files(), ids=house.name_of)
def test_a_file_and_its_functions_keep_to_their_size(path: Path) -> None:
    name = house.name_of(path)
    lines = len(path.read_text("utf-8").splitlines())
    assert lines <= house.FILE_LINES_MAX or name in LONG_FILES, (
        f"{name} has {lines} lines, at most {house.FILE_LINES_MAX}; could it be two?"
    )
    long = {
        function: size
        for function, node in house.functions(house.parse(path))
        if (size := house.function_lines(node)) > house.FUNCTION_LINES_MAX and f"{name}:{function}" not in LONG_FUNCTIONS
    }
    assert not long, f"functions of {name} over {house.FUNCTION_LINES_MAX} lines: {long}"


def test_exceptions_to_the_size_still_exist() -> None:
    files = [house.name_of(path) for path in house.source_files()]
    stale = [name for name in [*LONG_FILES, *(key.split(":")[0] for key in LONG_FUNCTIONS), *TESTED_ELSEWHERE] if name not in files]
    assert stale == []


@pytest.mark.parametrize("path", [path for path in house.source_files() if path.name != "__init__.py"], ids=house.name_of)
def test_a_file_has_its_test_file(path: Path) -> None:
    name = Path(house.name_of(path))
    expected = house.ROOT / TESTED_ELSEWHERE.get(name.as_posix(), f"tests/{name.parent.as_posix()}/test_{name.name}")
    assert expected.exists(), f"{name} has no {expected.relative_to(house.ROOT)}"


@pytest.mark.parametrize("path", house.source_files(), ids=house.name_of)
def test_public_coroutines_say_what_cancelling_loses(path: Path) -> None:
    assert list(house.silent_about_cancel(house.parse(path))) == []


def test_a_coroutine_silent_about_cancel_is_found() -> None:
    text = 'class Link:\n    async def drain(self) -> None:\n        """Wait until everything is sent."""\n'
    assert list(house.silent_about_cancel(ast.parse(text))) == ["Link.drain at line 2: add `Cancel: what it loses` to its docstring"]


def test_no_public_function_bears_a_package_name() -> None:
    # `holdfast.testing.client(svc)` is the one that reads well and cannot be meant otherwise: nobody imports `testing` whole.
    taken = [
        f"{house.name_of(path)}: {node.name}"
        for path in house.source_files()
        for node in house.parse(path).body
        if isinstance(node, house.Function) and node.name in (*house.PACKAGES, *house.MODULES) and path.name != "testing.py"
    ]
    assert taken == [], "`from holdfast import x` must not be able to mean two things"


@pytest.mark.parametrize("package", [path.parent for path in house.source_files() if path.name == "__init__.py"], ids=lambda p: p.name)
def test_an_init_only_says_and_exports(package: Path) -> None:
    allowed = (ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign, ast.Expr, ast.If, ast.FunctionDef)
    kinds = allowed if package == house.SOURCE else allowed[:-2]
    tree = house.parse(package / "__init__.py")
    assert [type(node).__name__ for node in tree.body if not isinstance(node, kinds)] == []


def test_importing_holdfast_loads_no_terminal_library() -> None:
    code = "import sys, holdfast; print([name for name in ('click', 'rich', 'aiohttp', 'httpx') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
