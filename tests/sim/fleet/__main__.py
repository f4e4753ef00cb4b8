"""The fleet campaign from the command line.

python -m tests.sim.fleet --seeds N --first K [--workers 2] [--json] [--all]     exits 1 at the first invariant broken, and names it
"""

from __future__ import annotations

import sys

from tests.sim.shell import parser_of, run

from .campaign import fleet


def main() -> int:
    """Run what was asked for. Returns the exit code."""
    return run(fleet, parser_of("fleet", __doc__.splitlines()[0]).parse_args())


if __name__ == "__main__":
    sys.exit(main())
