"""One server process of a peer: prints `{"port": …}` once it listens, then serves until a signal.

python -m bench.server PEER [VARIANT]
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import sys

from bench.peers import PEERS


def main() -> None:
    """Serve."""
    about = PEERS[sys.argv[1]]
    serve = importlib.import_module(about.module).serve
    arguments = sys.argv[2:]
    if not inspect.iscoroutinefunction(serve):
        serve(*arguments)
        return
    with asyncio.Runner(loop_factory=about.loop_factory()) as runner:
        runner.run(serve(*arguments))


if __name__ == "__main__":
    main()
