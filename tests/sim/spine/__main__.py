"""The spine campaign from the command line.

python -m tests.sim.spine --seeds N --first K [--workers 2] [--json] [--all]     exits 1 at the first invariant broken, and names it
python -m tests.sim.spine --soak FILE --seeds 200000                            goes on where it was interrupted; see `soak.py`
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.sim.shell import parser_of, run

from .campaign import spine
from .soak import soak


def main() -> int:
    """Run what was asked for. Returns the exit code."""
    parser = parser_of("spine", __doc__.splitlines()[0])
    parser.add_argument("--soak", type=Path, metavar="FILE", help="in slices, with the state in FILE and a report beside it")
    asked = parser.parse_args()
    if asked.soak is not None:
        return soak(asked.seeds, asked.first, asked.soak, asked.workers)
    return run(spine, asked)


if __name__ == "__main__":
    sys.exit(main())
