"""`python -m tests.sim.parity [-n 200] [WORD …]`: repeat programs on the real loop and say which do not always say the same.

With `--show`, print the log instead. For whoever writes a program: one that is not the same two hundred times beside a busy loop relies
on timing, and has no place here.
"""

from __future__ import annotations

import argparse
import pprint
import sys
import time
import traceback

from tests.sim.parity.catalogue import PROGRAMS
from tests.sim.parity.real import run_real


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.parity")
    parser.add_argument("words", nargs="*", help="parts of names; all programs without any")
    parser.add_argument("-n", "--times", type=int, default=200)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    different = 0
    for name, program in PROGRAMS.items():
        if options.words and not any(word in name for word in options.words):
            continue
        started = time.perf_counter()
        try:
            first = run_real(program)
            if options.show:
                print(name)
                pprint.pp(first, width=150)
            for _ in range(options.times - 1):
                again = run_real(program)
                if again != first:
                    print(f"DIFFERS {name}\n  {first}\n  {again}")
                    different += 1
                    break
        except BaseException as error:
            print(f"FAILS {name}: {type(error).__name__}")
            traceback.print_exception(error)
            different += 1
            if isinstance(error, KeyboardInterrupt):
                break
        print(f"{(time.perf_counter() - started) / options.times * 1000:8.1f} ms  {name}", flush=True)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
