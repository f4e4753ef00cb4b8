"""Processes of a scene: what they say is heard, and none stays behind, however it is."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from bench.failover.children import ChildFailed, Children

ECHO = 'import sys; print(\'{"event": "ready", "port": 5}\', flush=True); [print(line.strip(), flush=True) for line in sys.stdin]'


def test_a_child_is_heard_and_told(tmp_path: Path) -> None:
    with Children(tmp_path) as children:
        child = children.start("echo", [sys.executable, "-c", f"print('a banner'); {ECHO}"])
        assert child.ready() == {"event": "ready", "port": 5}
        child.tell("one")
        child.tell("two")
        assert [child.hear(), child.hear()] == ["one", "two"]
        child.hang_up()
        assert child.wait() == 0


def test_no_child_stays_behind_not_even_a_frozen_one_nor_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="the test"), Children(tmp_path) as children:
        busy, frozen = (children.start(name, [sys.executable, "-c", ECHO]) for name in ("busy", "frozen"))
        frozen.ready()
        frozen.signal(signal.SIGSTOP)
        raise RuntimeError("the test")
    assert [busy.process.returncode, frozen.process.returncode] == [-signal.SIGKILL, -signal.SIGKILL]


def test_a_child_that_ends_instead_of_being_ready_says_why(tmp_path: Path) -> None:
    with Children(tmp_path) as children, pytest.raises(ChildFailed, match=r"short ended with exit code 3: .*out of luck"):
        children.start("short", [sys.executable, "-c", "import sys; print('out of luck', file=sys.stderr); sys.exit(3)"]).ready()
