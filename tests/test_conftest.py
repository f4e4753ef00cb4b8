"""The way tests run here is itself seen to work: each leftover fails, and a skip fails under CI=true."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent


def outcome(tmp_path: Path, text: str, *, ci: str = "") -> tuple[str, str]:
    """Run `text` as a test file under our conftest; the closing line and everything printed."""
    folder = tmp_path / "tests"
    folder.mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (folder / "test_case.py").write_text(f"import asyncio, socket\nimport pytest\n{text}", "utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", str(folder)],
        cwd=tmp_path,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip().splitlines()[-1].split(" in ")[0], done.stdout


def test_async_tests_run_on_uvloop_and_on_both_when_marked(tmp_path: Path) -> None:
    closing, text = outcome(
        tmp_path,
        """
async def test_one(loop_name):
    assert type(asyncio.get_running_loop()).__module__ == loop_name == 'uvloop'
@pytest.mark.both_loops
@pytest.mark.parametrize("n", [1, 2])
async def test_two(loop_name, n):
    assert type(asyncio.get_running_loop()).__module__.split('.')[0] == loop_name
async def test_three():
    assert 1 == 2
""",
    )
    assert closing == "1 failed, 5 passed", text


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        ("    asyncio.get_running_loop().create_task(asyncio.Event().wait())", "left tasks behind"),
        ("    asyncio.get_running_loop().call_soon(int, 'x')\n    await asyncio.sleep(0)", "nobody handled"),
        ("    socket.socket()", "ResourceWarning"),
        ("    reader = await asyncio.open_connection(sock=socket.socketpair()[0])\n    del reader", "ResourceWarning"),
        ("    async def never(): pass\n    never()", "never awaited"),
    ],
    ids=["task", "error", "socket", "transport", "coroutine"],
)
def test_what_a_test_leaves_behind_fails_it(tmp_path: Path, body: str, complaint: str) -> None:
    closing, text = outcome(tmp_path, f"async def test_leaves():\n{body}\n")
    assert "failed" in closing, text
    assert complaint in text


@pytest.mark.parametrize(
    "text", ["def test_it(): pytest.skip('no moon')", "pytest.skip('no moon', allow_module_level=True)"], ids=["test", "file"]
)
def test_a_skip_is_listed_and_fails_under_ci(tmp_path: Path, text: str) -> None:
    closing, printed = outcome(tmp_path, text)
    assert closing == "1 skipped"
    assert "no moon" in printed
    shutil.rmtree(tmp_path / "tests")
    closing, printed = outcome(tmp_path, text, ci="true")
    assert closing.startswith("1 failed") or "1 error" in closing, printed
    assert "no moon" in printed
