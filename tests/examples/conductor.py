"""Starting the examples as their reader would: as programs, in their own processes, always ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLES = ROOT / "examples"
PATIENCE_S = 50.0
"""How long a test waits for a program to end; only a failure takes this long."""

ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("HOLDFAST_")}


def python(*words: str | Path, cwd: Path = EXAMPLES) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it said is in the result."""
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)


class Served(NamedTuple):
    """A service that can be called, and the lines it goes on to write."""

    address: str
    lines: Iterator[str]


@contextmanager
def serving(target: str, app_dir: Path = EXAMPLES) -> Generator[Served, None, None]:
    """A service in its own process, on a free port."""
    words = ["-m", "holdfast", "serve", target, "--app-dir", str(app_dir), "--bind", "tcp://127.0.0.1:0", "--json"]
    process = subprocess.Popen([sys.executable, *words], cwd=app_dir, env=ENVIRONMENT, stdout=subprocess.PIPE, text=True)
    # Bounds every wait for a line: the service is ended, and its lines with it.
    watchdog = threading.Timer(PATIENCE_S, process.kill)
    watchdog.start()
    try:
        assert process.stdout is not None
        lines = iter(process.stdout)
        ready = json.loads(next((line for line in lines if '"ready"' in line), "{}"))
        assert ready, f"{target} did not get ready"
        yield Served(ready["addresses"][0], lines)
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
