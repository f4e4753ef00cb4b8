"""The command line of fuzzing.

python -m tests.fuzz run [--seconds S] [--plain] [NAME ...]     every harness for S seconds, on all cores (`make fuzz`)
python -m tests.fuzz repeat NAME FILE                           one finding again
python -m tests.fuzz pack [NAME ...]                            the corpus anew, with what runs left in .fuzz/
python -m tests.fuzz replay [NAME ...]                          every input of the corpus once
python -m tests.fuzz campaign --executions N --out FILE         see campaign.py
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fuzz import campaign, engine, reach
from tests.fuzz.worker import has_atheris

ROW = "{:<12} {:>8} {:>11} {:>9} {:>8} {:>12}  {}"


def run(names: list[str], seconds: float, plain: bool) -> int:
    """Fuzz every harness in a process of its own, as many at a time as there are cores. Return how many findings there are."""
    guided = has_atheris() and not plain
    seed = secrets.token_hex(4)
    print(f"{'guided by coverage (atheris)' if guided else 'by luck (no atheris here)'}, {seconds:g} s each, seed {seed}")
    print(ROW.format("harness", "", "executions", "per s", "corpus", "slowest ms", "findings"))
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        work = [pool.submit(_worker, name, seconds, seed, Path(folder) / f"{name}.json", guided) for name in names]
        reports = [each.result() for each in work]
    findings = [text for each in reports for text in each["found"]]
    for text in findings:
        print("\n" + text)
    return len(findings)


def _worker(name: str, seconds: float, seed: str, path: Path, guided: bool) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.fuzz.worker", name, str(seconds), seed, str(path), "guided" if guided else "plain"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {"found": []}
    if done.returncode:
        found["found"].append(f"{name}: the process ended with {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    if "executions" in found:
        if guided:  # how long the slowest takes when nothing watches it
            watch = engine.Watch(engine.harness(name))
            watch.run(bytes.fromhex(found["slowest"]))
            found["slowest_ms"] = round(watch.slowest_s * 1000, 3)
        numbers = (found["executions"], found["per_second"], found["corpus"], found["slowest_ms"], len(found["found"]))
        print(ROW.format(name, "guided" if found["guided"] else "luck", *numbers), flush=True)
    return found


def repeat(name: str, path: Path) -> None:
    """Run one input and let what it raises through."""
    engine.harness(name).one(path.read_bytes())
    print("nothing was found")


def replay(name: str) -> int:
    """Run the corpus of a harness; return how many findings there are."""
    watch = engine.Watch(engine.harness(name))
    for data in engine.inputs(watch.harness):
        watch.run(data)
    for text in watch.complaints():
        print(text)
    return len(watch.found)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("run")
    verb.add_argument("names", nargs="*", metavar="NAME", default=list(engine.NAMES))
    verb.add_argument("--seconds", type=float, default=60.0)
    verb.add_argument("--plain", action="store_true", help="without atheris")
    verb = verbs.add_parser("repeat")
    verb.add_argument("name", choices=engine.NAMES)
    verb.add_argument("path", type=Path)
    verb = verbs.add_parser("pack")
    verb.add_argument("names", nargs="*", metavar="NAME", default=list(engine.NAMES))
    verb = verbs.add_parser("replay")
    verb.add_argument("names", nargs="*", metavar="NAME", default=list(engine.NAMES))
    campaign.add_arguments(verbs.add_parser("campaign"))
    asked = parser.parse_args()
    if asked.verb == "run":
        return 1 if run(asked.names, asked.seconds, asked.plain) else 0
    if asked.verb == "repeat":
        repeat(asked.name, asked.path)
    elif asked.verb == "pack":
        for name in asked.names:
            print(f"{name}: {reach.pack(name)}")
    elif asked.verb == "replay":
        return sum(replay(name) for name in asked.names)
    else:
        return campaign.run(asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
