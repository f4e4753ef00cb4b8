"""One worker process of a campaign: cases come in on stdin, outcomes go out on stdout, a JSON line each.

Owns: what such a process does with its descriptors and signals. It ends when stdin does, so it never outlives the campaign; Ctrl-C is for
the process that started it. What a scenario prints goes nowhere: a thousand worlds would say it a thousand times.

What may never happen here: a line on the pipe that is not an outcome.
"""

from __future__ import annotations

import os
import signal
import sys

import msgspec

from .explore import checked, is_self_checked
from .loading import chosen
from .scenario import Case

READY = b"ready\n"


def serve(place: str) -> None:
    """Run the cases that come in, one after the other."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    pipe = os.dup(1)
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    (scenario,) = chosen(place)
    os.write(pipe, READY)
    with os.fdopen(pipe, "wb") as answers:
        for line in sys.stdin.buffer:
            case = msgspec.json.decode(line, type=Case)
            outcome = checked(scenario, case, twice=is_self_checked(case.seed))
            answers.write(msgspec.json.encode(outcome) + b"\n")
            answers.flush()


if __name__ == "__main__":
    serve(sys.argv[1])
