"""Reading the code blocks of a page, and running them as its reader would.

The word after the language in the opening fence says what a block is for:

    ```python run        executed, top to bottom, in one namespace per page; top-level await works
    ```python            compiled: a fragment, or a program that cannot run here
    ```text output       what the `python run` block right before it prints
    ```console run       each `$ holdfast …` line is run, and the lines under it are what it prints; `…` stands for anything
    ```console           shown, not run

What may never happen here: a block that looks checked and is not. An unknown word is an error.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import os
import re
import shlex
import subprocess
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import uvloop

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = ROOT / "docs"
KNOWN = ("python", "python run", "text output", "console", "console run", "text", "sh", "toml", "json", "mermaid")
COMMAND_TIMEOUT_S = 30


@dataclass(frozen=True, kw_only=True)
class Block:
    """One fenced block: what its fence says, what it holds, and where it begins."""

    info: str
    code: str
    line: int


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def pairs() -> list[tuple[Path, Path]]:
    """Each English page with its Chinese one; of each pair at least one exists."""
    relative = sorted({page.relative_to(DOCS / language) for language in ("en", "zh") for page in (DOCS / language).rglob("*.md")})
    return [(ROOT / "README.md", ROOT / "README.zh-CN.md"), *((DOCS / "en" / each, DOCS / "zh" / each) for each in relative)]


def pages() -> list[Path]:
    """Every page there is, in both languages."""
    return [page for pair in pairs() for page in pair if page.exists()]


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page, in order."""
    found: list[Block] = []
    info: str | None = None
    start, lines = 0, []
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"```(.*)$", line)
        if fence is None:
            lines.append(line)
        elif info is None:
            info, start, lines = fence[1].strip(), number, []
        else:
            found.append(Block(info=info, code="\n".join(lines) + "\n", line=start))
            info = None
    if info is not None:
        raise ValueError(f"the block that begins at line {start} is not closed")
    return found


def run_page(page: Path) -> None:
    """Check every block of the page; the first that is wrong raises, with the page's own line numbers."""
    module = types.ModuleType(f"docs_{page.stem.replace('-', '_').replace('.', '_')}")
    # Types resolve their annotations through the module they say they are from.
    sys.modules[module.__name__] = module
    printed = ""
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for block in blocks(page.read_text("utf-8")):
                if block.info not in KNOWN:
                    raise ValueError(f"{name_of(page)}:{block.line}: unknown kind of block {block.info!r}; it may be {', '.join(KNOWN)}")
                if block.info.startswith("python"):
                    printed = _run_python(page, block, module, runner)
                elif block.info == "text output":
                    _same(page, block.line, expected=block.code, printed=printed)
                elif block.info == "console run":
                    _run_console(page, block)
    finally:
        del sys.modules[module.__name__]


def _run_python(page: Path, block: Block, module: types.ModuleType, runner: asyncio.Runner) -> str:
    padded = "\n" * block.line + block.code
    code = compile(padded, name_of(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    if block.info == "python":
        return ""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        if code.co_flags & inspect.CO_COROUTINE:
            # A program with top-level await is a coroutine; `run()` wants one, and calling the code object makes it.
            runner.run(types.FunctionType(code, module.__dict__)())
        else:
            exec(code, module.__dict__)
    return output.getvalue()


def _run_console(page: Path, block: Block) -> None:
    expected: list[str] = []
    command = ""
    for line in [*block.code.splitlines(), "$ "]:
        if not line.startswith("$ "):
            expected.append(line)
            continue
        if command.startswith("holdfast"):
            words = [sys.executable, "-m", *shlex.split(command)]
            environment = {**os.environ, "NO_COLOR": "1"}
            done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
            _same(page, block.line, expected="\n".join(expected), printed=done.stdout + done.stderr)
        command, expected = line[2:], []


def _same(page: Path, line: int, *, expected: str, printed: str) -> None:
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("…"))
    if not re.fullmatch(pattern, printed.strip(), re.DOTALL):
        raise AssertionError(f"{name_of(page)}:{line} says\n{expected}\nand it printed\n{printed}")
